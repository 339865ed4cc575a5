#!/usr/bin/python3
"""A vita-ske peer that shares no code with the gateway.

It is written from the protocol's description alone, with Python's hashlib and
the cryptography package, and plays both roles of the key exchange with a real
gateway. Then it proves the keys: it sends an echo request in ESP by the SA of
each role to a host behind the gateway, and wants the reply in ESP.

Prints "responder: ok" and "initiator: ok", and exits with 0 if both came.
"""
import argparse
import hashlib
import hmac
import os
import socket
import struct
import sys
import time

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

VERSION, PORT = 5, 303
KNOCK, CHALLENGE, PROPOSAL, AGREEMENT = 11, 12, 13, 14
AEAD = b"aes-gcm-16-icv".ljust(32, b"\0")


def blake2s(data):
    return hashlib.blake2s(data).digest()


def mac(key, data):
    return hmac.new(key, data, hashlib.blake2s).digest()


def hkdf(key, material, n):
    t = mac(key, material)
    out, last = [], b""
    for i in range(n):
        last = mac(t, last + bytes([i + 1]))
        out.append(last)
    return out


class NNpsk0:
    """The handshake of the Noise specification, pattern NNpsk0."""

    def __init__(self, prologue, psk):
        self.h = self.ck = blake2s(b"Noise_NNpsk0_25519_AESGCM_BLAKE2s")
        self.mix_hash(prologue)
        self.ck, temp, self.k = hkdf(self.ck, psk, 3)
        self.mix_hash(temp)
        self.n = 0
        self.e = X25519PrivateKey.generate()
        self.pub = self.e.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def mix_hash(self, data):
        self.h = blake2s(self.h + data)

    def mix_key(self, material):
        self.ck, self.k = hkdf(self.ck, material, 2)
        self.n = 0

    def ephemeral(self, pub):
        self.mix_hash(pub)
        self.mix_key(pub)

    def nonce(self):
        self.n += 1
        return struct.pack(">IQ", 0, self.n - 1)

    def seal(self, plain):
        c = AESGCM(self.k).encrypt(self.nonce(), plain, self.h)
        self.mix_hash(c)
        return c

    def open(self, c):
        p = AESGCM(self.k).decrypt(self.nonce(), c, self.h)
        self.mix_hash(c)
        return p

    def exchange(self, theirs):
        self.mix_key(self.e.exchange(X25519PublicKey.from_public_bytes(theirs)))

    def keys(self):
        t = mac(b"\0" * 32, self.ck)
        a = mac(t, b"\1")
        b = mac(t, a + b"\2")
        okm = (a + b)[:40]
        return okm[:20], okm[20:]  # responder to initiator, initiator to responder


def checksum(b):
    if len(b) % 2:
        b += b"\0"
    s = sum(struct.unpack(">%dH" % (len(b) // 2), b))
    while s >> 16:
        s = (s & 0xFFFF) + (s >> 16)
    return ~s & 0xFFFF


def echo_request(src, dst, ident):
    icmp = struct.pack(">BBHHH", 8, 0, 0, ident, 1) + b"from a foreign peer"
    icmp = icmp[:2] + struct.pack(">H", checksum(icmp)) + icmp[4:]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0) + socket.inet_aton(src) + socket.inet_aton(dst)
    return ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:] + icmp


class Esp:
    """One SA: encrypts or decrypts by key and salt, ESN on."""

    def __init__(self, spi, material):
        self.spi, self.key, self.salt, self.seq = spi, material[:16], material[16:], 0

    def seal(self, inner):
        self.seq += 1
        pad = -(len(inner) + 2) % 4
        plain = inner + bytes(range(1, pad + 1)) + bytes([pad, 4])
        iv = struct.pack("<Q", self.seq)
        c = AESGCM(self.key).encrypt(self.salt + iv, plain, struct.pack(">IQ", self.spi, self.seq))
        return struct.pack(">II", self.spi, self.seq & 0xFFFFFFFF) + iv + c

    def open(self, packet):
        spi, seq = struct.unpack(">II", packet[:8])
        plain = AESGCM(self.key).decrypt(self.salt + packet[8:16], packet[16:], struct.pack(">IQ", spi, seq))
        pad, nxt = plain[-2], plain[-1]
        assert nxt == 4 and plain[-2 - pad:-2] == bytes(range(1, pad + 1)), "ESP trailer"
        return plain[:-2 - pad]


class Peer:
    def __init__(self, a):
        self.a, self.psk = a, bytes.fromhex(a.psk)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((a.me, PORT))
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 50)
        self.raw.bind((a.me, 0))
        self.nonce = os.urandom(32)
        self.inbound = {}  # SPI -> Esp
        self.out = {}  # role -> Esp
        self.hs = None

    def send(self, kind, body):
        self.udp.sendto(struct.pack(">IB3x", self.a.spi, kind) + body, (self.a.peer, PORT))

    def prologue(self, initiator, responder, nonce):
        address = lambda x: socket.inet_aton(x).ljust(16, b"\0")
        return struct.pack(">II", VERSION, self.a.spi) + address(initiator) + address(responder) + AEAD + nonce

    def receive(self, deadline):
        self.udp.settimeout(max(0.01, deadline - time.time()))
        data, (host, _) = self.udp.recvfrom(2048)
        spi, kind = struct.unpack(">IB", data[:5])
        assert host == self.a.peer and spi == self.a.spi, "message of somebody else"
        size = {KNOCK: 12, CHALLENGE: 76, PROPOSAL: 88, AGREEMENT: 88}[kind]
        assert len(data) == size, "message %d has %d bytes" % (kind, len(data))
        return kind, data[8:]

    def respond(self, deadline):
        """The gateway knocks, we answer."""
        while True:
            kind, body = self.receive(deadline)
            if kind == KNOCK:
                assert struct.unpack(">I", body) == (VERSION,)
                self.send(CHALLENGE, struct.pack(">I", VERSION) + AEAD + self.nonce)
            elif kind == PROPOSAL:
                hs = NNpsk0(self.prologue(self.a.peer, self.a.me, self.nonce), self.psk)
                hs.ephemeral(body[:32])
                theirs, = struct.unpack(">I", hs.open(body[32:])[:4])
                hs.ephemeral(hs.pub)
                hs.exchange(body[:32])
                ours = 0xABCD0001  # any 32 bits will do
                self.send(AGREEMENT, hs.pub + hs.seal(struct.pack(">I28x", ours)))
                to_initiator, from_initiator = hs.keys()
                self.inbound[ours] = Esp(ours, from_initiator)
                self.out["responder"] = Esp(theirs, to_initiator)
                return

    def initiate(self, deadline):
        """We knock, the gateway answers."""
        self.send(KNOCK, struct.pack(">I", VERSION))
        ours = 0xABCD0002
        while True:
            kind, body = self.receive(deadline)
            if kind == CHALLENGE:
                version, = struct.unpack(">I", body[:4])
                assert version == VERSION and body[4:36] == AEAD, "challenge"
                hs = self.hs = NNpsk0(self.prologue(self.a.me, self.a.peer, body[36:]), self.psk)
                hs.ephemeral(hs.pub)
                self.send(PROPOSAL, hs.pub + hs.seal(struct.pack(">I28x", ours)))
            elif kind == AGREEMENT:
                hs = self.hs
                hs.ephemeral(body[:32])
                hs.exchange(body[:32])
                theirs, = struct.unpack(">I", hs.open(body[32:])[:4])
                to_initiator, from_initiator = hs.keys()
                self.inbound[ours] = Esp(ours, to_initiator)
                self.out["initiator"] = Esp(theirs, from_initiator)
                return

    def prove(self, role, ident, deadline):
        """An echo request through the tunnel, and its reply."""
        self.raw.settimeout(0.3)
        while time.time() < deadline:
            self.raw.sendto(self.out[role].seal(echo_request(self.a.inner, self.a.host, ident)), (self.a.peer, 0))
            try:
                packet = self.raw.recv(4096)[20:]
            except socket.timeout:
                continue
            spi, = struct.unpack(">I", packet[:4])
            inner = self.inbound[spi].open(packet)
            if inner[9] == 1 and inner[20] == 0 and struct.unpack(">H", inner[24:26]) == (ident,):
                assert checksum(inner[20:]) == 0 and checksum(inner[:20]) == 0, "inner checksum"
                print(role + ": ok", flush=True)
                return
        sys.exit(role + ": no echo reply through the tunnel")


p = argparse.ArgumentParser()
p.add_argument("--me", required=True, help="our address")
p.add_argument("--peer", required=True, help="the gateway's public address")
p.add_argument("--spi", type=int, required=True, help="the route's SPI")
p.add_argument("--psk", required=True)
p.add_argument("--inner", required=True, help="an address in the route's net, which we pose as")
p.add_argument("--host", required=True, help="a host behind the gateway")
p.add_argument("--seconds", type=float, default=30)
a = p.parse_args()
deadline = time.time() + a.seconds
peer = Peer(a)
peer.respond(deadline)
peer.prove("responder", 1, deadline)
peer.initiate(deadline)
peer.prove("initiator", 2, deadline)
