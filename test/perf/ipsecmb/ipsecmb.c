// Measures AES-GCM sealing by Intel's ipsec-mb as vitabench aead measures ours:
// packets in place, 8 bytes of associated data, a new nonce for each, as many
// packets a call. Written from the comments of intel-ipsec-mb.h; built and run
// by bench.sh alone.
//
//	ipsecmb BITS BATCH ROUNDS CPU SIZE...
//
// prints one line a size and way of calling: the way, the size, the median and
// the least ns a packet. "direct" is one function call a packet, "burst" the
// job interface for a whole batch, "job" the same a packet at a time.
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <intel-ipsec-mb.h>

enum { TAG = 16, AAD = 8, MOST = 128 };

struct bench {
	IMB_MGR *mgr;
	struct gcm_key_data *key;
	int bits, batch, size, stride;
	uint8_t *memory;
	uint8_t nonce[MOST][12];
	uint8_t aad[AAD];
	uint64_t counter;
};

static void fail(const char *what)
{
	fprintf(stderr, "ipsecmb: %s\n", what);
	exit(1);
}

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void nonces(struct bench *b)
{
	for (int i = 0; i < b->batch; i++) {
		b->counter++;
		memcpy(b->nonce[i] + 4, &b->counter, 8);
	}
}

static void direct(struct bench *b)
{
	struct gcm_context_data ctx;
	nonces(b);
	for (int i = 0; i < b->batch; i++) {
		uint8_t *p = b->memory + (size_t)i * b->stride;
		if (b->bits == 128)
			IMB_AES128_GCM_ENC(b->mgr, b->key, &ctx, p, p, b->size, b->nonce[i], b->aad, AAD, p + b->size, TAG);
		else
			IMB_AES256_GCM_ENC(b->mgr, b->key, &ctx, p, p, b->size, b->nonce[i], b->aad, AAD, p + b->size, TAG);
	}
}

static void fill(struct bench *b, IMB_JOB *j, int i)
{
	uint8_t *p = b->memory + (size_t)i * b->stride;
	j->cipher_mode = IMB_CIPHER_GCM;
	j->hash_alg = IMB_AUTH_AES_GMAC;
	j->cipher_direction = IMB_DIR_ENCRYPT;
	j->chain_order = IMB_ORDER_CIPHER_HASH;
	j->enc_keys = j->dec_keys = b->key;
	j->key_len_in_bytes = b->bits / 8;
	j->src = p;
	j->dst = p;
	j->cipher_start_src_offset_in_bytes = 0;
	j->msg_len_to_cipher_in_bytes = b->size;
	j->hash_start_src_offset_in_bytes = 0;
	j->msg_len_to_hash_in_bytes = b->size;
	j->iv = b->nonce[i];
	j->iv_len_in_bytes = 12;
	j->u.GCM.aad = b->aad;
	j->u.GCM.aad_len_in_bytes = AAD;
	j->auth_tag_output = p + b->size;
	j->auth_tag_output_len_in_bytes = TAG;
}

static void burst(struct bench *b)
{
	IMB_JOB *jobs[MOST];
	nonces(b);
	if ((int)IMB_GET_NEXT_BURST(b->mgr, b->batch, jobs) < b->batch)
		fail("no jobs");
	for (int i = 0; i < b->batch; i++)
		fill(b, jobs[i], i);
	if ((int)IMB_SUBMIT_BURST_NOCHECK(b->mgr, b->batch, jobs) != b->batch || jobs[b->batch - 1]->status != IMB_STATUS_COMPLETED)
		fail("a burst is not complete");
}

static void job(struct bench *b)
{
	nonces(b);
	for (int i = 0; i < b->batch; i++) {
		fill(b, IMB_GET_NEXT_JOB(b->mgr), i);
		IMB_JOB *done = IMB_SUBMIT_JOB_NOCHECK(b->mgr);
		if (done == NULL || done->status != IMB_STATUS_COMPLETED)
			fail("a job is not complete");
	}
}

static const struct way {
	const char *name;
	void (*run)(struct bench *);
} ways[] = {{"direct", direct}, {"burst", burst}, {"job", job}};

// All ways must give what the known answer is: the empty packet of the first
// test case of the GCM specification, and each other's packets.
static void check(struct bench *b)
{
	static const uint8_t want[TAG] = {0x58, 0xe2, 0xfc, 0xce, 0xfa, 0x7e, 0x30, 0x61, 0x36, 0x7f, 0x1d, 0x57, 0xa4, 0xe7, 0x45, 0x5a};
	size_t n = (size_t)b->batch * b->stride;
	uint8_t *first = malloc(n);
	if (first == NULL)
		fail("no memory");
	if (b->bits == 128) {
		struct gcm_context_data ctx;
		uint8_t tag[TAG], none[16] = {0}, zero[12] = {0};
		IMB_AES128_GCM_ENC(b->mgr, b->key, &ctx, none, none, 0, zero, none, 0, tag, TAG);
		if (memcmp(tag, want, TAG) != 0)
			fail("wrong tag");
	}
	for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
		b->counter = 0;
		memset(b->memory, 0, n);
		ways[w].run(b);
		if (w == 0)
			memcpy(first, b->memory, n);
		else if (memcmp(first, b->memory, n) != 0)
			fail("two ways of calling give different packets");
	}
	free(first);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static int number(const char *s, int low, int high, const char *what)
{
	char *end;
	long n = strtol(s, &end, 10);
	if (*s == 0 || *end != 0 || n < low || n > high) {
		fprintf(stderr, "ipsecmb: %s %s: want %d to %d\n", what, s, low, high);
		exit(2);
	}
	return (int)n;
}

int main(int argc, char **argv)
{
	if (argc < 6) {
		fprintf(stderr, "usage: ipsecmb BITS BATCH ROUNDS CPU SIZE...\n");
		return 2;
	}
	struct bench b = {0};
	b.bits = number(argv[1], 128, 256, "BITS");
	b.batch = number(argv[2], 1, MOST, "BATCH");
	int rounds = number(argv[3], 1, 1 << 20, "ROUNDS");
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(number(argv[4], 0, CPU_SETSIZE - 1, "CPU"), &set);
	if (b.bits != 128 && b.bits != 256)
		fail("BITS: want 128 or 256");
	if (sched_setaffinity(0, sizeof set, &set) != 0) {
		perror("ipsecmb: bind to CPU");
		return 1;
	}
	IMB_ARCH arch;
	b.mgr = alloc_mb_mgr(0);
	if (b.mgr == NULL)
		fail("no manager");
	init_mb_mgr_auto(b.mgr, &arch);
	if (imb_get_errno(b.mgr) != 0)
		fail(imb_get_strerror(imb_get_errno(b.mgr)));
	if (posix_memalign((void **)&b.key, 64, sizeof *b.key) != 0)
		fail("no memory");
	uint8_t raw[32] = {0};
	if (b.bits == 128)
		IMB_AES128_GCM_PRE(b.mgr, raw, b.key);
	else
		IMB_AES256_GCM_PRE(b.mgr, raw, b.key);
	double *times = malloc(rounds * sizeof *times);
	for (int a = 5; a < argc; a++) {
		b.size = number(argv[a], 1, 1 << 16, "SIZE");
		b.stride = b.size + TAG + 64;
		b.memory = calloc(b.batch, b.stride);
		if (b.memory == NULL || times == NULL)
			fail("no memory");
		check(&b);
		int calls = 1000 / b.batch * 64 / (b.size + 64);
		if (calls < 1)
			calls = 1;
		for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
			for (int r = 0; r < rounds; r++) {
				int64_t start = now();
				for (int c = 0; c < calls; c++)
					ways[w].run(&b);
				times[r] = (double)(now() - start) / ((double)calls * b.batch);
			}
			qsort(times, rounds, sizeof *times, compare);
			printf("%s %d %.2f %.2f\n", ways[w].name, b.size, times[rounds / 2], times[0]);
		}
		free(b.memory);
	}
	free(times);
	free(b.key);
	free_mb_mgr(b.mgr);
	return 0;
}
