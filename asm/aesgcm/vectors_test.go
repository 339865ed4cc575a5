package aesgcm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/c2sp/wycheproof"
)

func TestPublishedVectors(t *testing.T) { onEveryTier(t, publishedVectors) }

// publishedVectors are those of McGrew and Viega's specification of GCM, which
// NIST took over, with nonces of 96 bits and no associated data.
func publishedVectors(t *testing.T) {
	const key, nonce = "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888"
	const plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
	zero := strings.Repeat("00", 16)
	for _, c := range []struct{ name, key, nonce, plain, sealed string }{
		{"1", zero, zero[:24], "", "58e2fccefa7e3061367f1d57a4e7455a"},
		{"2", zero, zero[:24], zero, "0388dace60b6a392f328c2b971b2fe78" + "ab6e47d42cec13bdf53a67b21257bddf"},
		{
			"3", key, nonce, plain, "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985" +
				"4d5c2af327cd64a62cf35abd2ba6fab4",
		},
		{"13", zero + zero, zero[:24], "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{"14", zero + zero, zero[:24], zero, "cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919"},
		{
			"15", key + key, nonce, plain, "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad" +
				"b094dac5d93471bdec1a502270e3cc6c",
		},
	} {
		vector(t, c.name, unhex(t, c.key), unhex(t, c.nonce), nil, unhex(t, c.plain), unhex(t, c.sealed), true)
	}
}

// vector checks one published vector: alone, and among others in a batch, where
// small packets take another kernel.
func vector(t *testing.T, name string, key, nonce, aad, plain, sealed []byte, valid bool) {
	t.Helper()
	var k Key
	if err := k.Expand(key); err != nil {
		t.Fatal(err)
	}
	defer k.Clear()
	for _, n := range []int{1, 5} {
		seal, open := make([]Op, n), make([]Op, n)
		for i := range n {
			seal[i] = Op{Key: &k, Nonce: [12]byte(nonce), AAD: aad, Buf: append(bytes.Clone(plain), make([]byte, TagSize)...)}
			open[i] = Op{Key: &k, Nonce: [12]byte(nonce), AAD: aad, Buf: bytes.Clone(sealed)}
		}
		Seal(seal)
		Open(open)
		for i := range n {
			if got := bytes.Equal(seal[i].Buf, sealed); !seal[i].OK || got != valid {
				t.Errorf("%s: sealed %x, want %x (valid: %v)", name, seal[i].Buf, sealed, valid)
			}
			if open[i].OK != valid || valid && !bytes.Equal(open[i].Buf[:len(plain)], plain) {
				t.Errorf("%s: opens: %v", name, open[i].OK)
			}
		}
	}
}

// Wycheproof's vectors (https://github.com/C2SP/wycheproof, Apache-2.0) come as a
// module, with their licence.
func TestWycheproof(t *testing.T) { onEveryTier(t, wycheproofVectors) }

func wycheproofVectors(t *testing.T) {
	f, err := fs.ReadFile(wycheproof.TestVectors, "aes_gcm_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TestGroups []struct {
			IVSize, KeySize, TagSize int
			Tests                    []struct {
				TcID                                int
				Key, IV, AAD, Msg, CT, Tag, Comment string
				Result                              string
			}
		}
	}
	if err := json.Unmarshal(f, &file); err != nil {
		t.Fatal(err)
	}
	done := 0
	for _, g := range file.TestGroups {
		for _, c := range g.Tests {
			if g.IVSize != 96 || g.TagSize != 128 || g.KeySize == 192 || len(c.AAD) > 2*MaxAAD {
				continue // not what ESP has
			}
			vector(t, fmt.Sprint(c.TcID, " ", c.Comment), unhex(t, c.Key), unhex(t, c.IV), unhex(t, c.AAD), unhex(t, c.Msg), unhex(t, c.CT+c.Tag), c.Result == "valid")
			done++
		}
	}
	if done < 100 {
		t.Fatalf("only %d vectors fit", done)
	}
}

// published is a vector with sealed = ciphertext and tag.
type published struct{ name, key, nonce, aad, plain, sealed string }

func checkVectors(t *testing.T, vectors []published) {
	for _, c := range vectors {
		key, nonce, aad, plain, sealed := unhex(t, c.key), unhex(t, c.nonce), unhex(t, c.aad), unhex(t, c.plain), unhex(t, c.sealed)
		vector(t, c.name, key, nonce, aad, plain, sealed, true)
		for _, i := range []int{0, len(plain), len(sealed) - 1} {
			forged := bytes.Clone(sealed)
			forged[i] ^= 0x80
			vector(t, fmt.Sprint(c.name, ", byte ", i, " forged"), key, nonce, aad, plain, forged, false)
		}
	}
}

func TestNIST(t *testing.T) { onEveryTier(t, nistVectors) }

// nistVectors are from NIST's Cryptographic Algorithm Validation Program,
// gcmtestvectors.zip (CAVS 14.0), files gcmEncryptExtIV128.rsp and
// gcmEncryptExtIV256.rsp: some of those with nonces of 96 bits, tags of 128 and
// at most 128 of associated data. Works of NIST are in the public domain.
func nistVectors(t *testing.T) {
	checkVectors(t, []published{
		{
			"Encrypt128, PT 0, AAD 0", "11754cd72aec309bf52f7687212e8957", "3c819d9a9bed087615030b65", "",
			"",
			"250327c674aaf477aef2675748cf6971",
		},
		{
			"Encrypt128, PT 0, AAD 0", "ca47248ac0b6f8372a97ac43508308ed", "ffd2b598feabc9019262d2be", "",
			"",
			"60d20404af527d248d893ae495707d1a",
		},
		{
			"Encrypt128, PT 0, AAD 128", "77be63708971c4e240d1cb79e8d77feb", "e0e00f19fed7ba0136a797f3", "7a43ec1d9c0a5a78a0b16533a6213cab",
			"",
			"209fcc8d3675ed938e9c7166709dd946",
		},
		{
			"Encrypt128, PT 0, AAD 128", "7680c5d3ca6154758e510f4d25b98820", "f8f105f9c3df4965780321f8", "c94c410194c765e3dcc7964379758ed3",
			"",
			"94dca8edfcf90bb74b153c8d48a17930",
		},
		{
			"Encrypt128, PT 128, AAD 0", "ab72c77b97cb5fe9a382d9fe81ffdbed", "54cc7dc2c37ec006bcc6d1da", "",
			"007c5e5b3e59df24a7c355584fc1518d",
			"0e1bde206a07a9c2c1b65300f8c649972b4401346697138c7a4891ee59867d0c",
		},
		{
			"Encrypt128, PT 128, AAD 128", "c939cc13397c1d37de6ae0e1cb7c423c", "b3d8cc017cbb89b39e0f67e2", "24825602bd12a984e0092d3e448eda5f",
			"c3b3c41f113a31b73d9a5cd432103069",
			"93fe7d9e9bfd10348a5606e5cafa73540032a1dc85f1c9786925a2e71d8272dd",
		},
		{
			"Encrypt256, PT 0, AAD 0", "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4", "516c33929df5a3284ff463d7", "",
			"",
			"bdc1ac884d332457a1d2664f168c76f0",
		},
		{
			"Encrypt256, PT 0, AAD 0", "5fe0861cdc2690ce69b3658c7f26f8458eec1c9243c5ba0845305d897e96ca0f", "770ac1a5a3d476d5d96944a1", "",
			"",
			"196d691e1047093ca4b3d2ef4baba216",
		},
		{
			"Encrypt256, PT 128, AAD 0", "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22", "0d18e06c7c725ac9e362e1ce", "",
			"2db5168e932556f8089a0622981d017d",
			"fa4362189661d163fcd6a56d8bf0405ad636ac1bbedd5cc3ee727dc2ab4a9489",
		},
		{
			"Encrypt256, PT 128, AAD 128", "92e11dcdaa866f5ce790fd24501f92509aacf4cb8b1339d50c9c1240935dd08b", "ac93a1a6145299bde902f21a", "1e0889016f67601c8ebea4943bc23ad6",
			"2d71bcfa914e4ac045b2aa60955fad24",
			"8995ae2e6df3dbf96fac7b7137bae67feca5aa77d51d4a0a14d9c51e1da474ab",
		},
	})
}

func TestESPPackets(t *testing.T) { onEveryTier(t, espPackets) }

// espPackets are what RFC 4106 makes of packets, from draft-mcgrew-gcm-test-01,
// section 4 (the RFC itself has none): salt and IV are the nonce, SPI and
// sequence number, of 32 or of 64 bits, the associated data. Left out are the
// case with a key of 192 bits and three that differ little from others.
func espPackets(t *testing.T) {
	checkVectors(t, []published{
		{
			"case 1", "4c80cdefbb5d10da906ac73c3613a634", "2e443b684956ed7e3b244cfe", "000043218765432100000000",
			"45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f75647003736970" +
				"0963796265726369747902646b000021000101020201",
			"fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b2" +
				"1e1884f5ff6247aeabb786b93bce61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
		},
		{
			"case 2", "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888", "0000a5f80000000a",
			"4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100000100000000000003736970096379626572" +
				"6369747902646b00000100010001",
			"deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb" +
				"85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
		},
		{
			"case 3", "abbccddef00112233445566778899aababbccddef00112233445566778899aab", "112233440102030405060708", "4a2cbfe300000002",
			"4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b4010104020102" +
				"0201",
			"ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def84" +
				"2d8eb335f4eecfdbf831824b4c4915956c96",
		},
		{
			"case 6", "3de09874b388e6491988d0c3607eae1f", "57690e434e280000a2fca1a3", "42f67e3f1010101010101010",
			"4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
			"fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed369f071f35e034be95f112e4e7d05d35",
		},
		{
			"case 8", "abbccddef00112233445566778899aab", "decaf888cafedebaceface74", "000001000000000000000001",
			"4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d500004e20001e8c18d75b81dc91baa0476b91" +
				"b924b280389d92c963bac046ec959b6266c04722b14923010101",
			"18a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f9190feebaf2cb01984e65863965d7472b79d" +
				"a345e0e780191f0d2f0e0f496c226f2127b27db35724e7845d68651f57e65f354f75ff17015769623436",
		},
		{
			"case 9", "abbccddef00112233445566778899aababbccddef00112233445566778899aab", "73616c74616e640169766563", "17405e67156f3126dd0db99b",
			"45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001",
			"f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e451626c2415771e3b7ee" +
				"bca614c89b35",
		},
		{
			"case 11", "abbccddef00112233445566778899aababbccddef00112233445566778899aab", "73616c74616e640169766563", "17405e67156f3126dd0db99b",
			"636973636f0172756c657301746865016e6574776501646566696e6501746865746563686e6f6c6f67696573017468617477" +
				"696c6c01646566696e65746f6d6f72726f7701020201",
			"d4b7ed86a1777f2ea13d6973d324c69e7b43f826fb56831226508bebd2dceb18d0a6df10e5487df074113e14c641024e3e67" +
				"73d91a62ee429b043a10e3efe6b012a49363412364f8c0cac587f249e56b11e24f30e44ccc76",
		},
		{
			"case 12", "7d773d00c144c525ac619d18c84a3f47", "d966426743457e9182443bc6", "335467aeffffffff",
			"01020201",
			"437f866bcb3f699fe9b0822bac961c4504bef270",
		},
		{
			"case 13", "abbccddef00112233445566778899aab", "decaf888cafedebaceface74", "000001000000000000000001",
			"746f016265016f72016e6f7401746f0162650001",
			"29c9fc69a197d038ccdd14e2ddfcaa0543332164412503524303ed3c6c5f283843af8c3e",
		},
		{
			"case 14", "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961", "7475726e333021696765746d", "796b6963ffffffffffffffff",
			"45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f70717273740102" +
				"0201",
			"f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57dbe821dcc" +
				"63b9d0937ba2945f669368661a329fb4c053",
		},
	})
}
