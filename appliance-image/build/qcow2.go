package main

import (
	"bytes"
	"encoding/binary"
	"io"
)

// writeQcow2 writes a disk in QEMU's format, version 3 (QEMU's document
// "qcow2"): clusters of zeros are left out.
//
//	header | L1 | L2 tables | refcount table | refcount blocks | data
func writeQcow2(w io.Writer, disk []byte) error {
	const (
		bits    = 16
		cluster = 1 << bits
		copied  = 1 << 63 // nobody else uses the cluster
		perL2   = cluster / 8
		perRef  = cluster / 2
	)
	be := binary.BigEndian
	clusters := (len(disk) + cluster - 1) / cluster
	tables := (clusters + perL2 - 1) / perL2
	var used []int
	zero := make([]byte, cluster)
	for i := range clusters {
		if c := disk[i*cluster : min((i+1)*cluster, len(disk))]; !bytes.Equal(c, zero[:len(c)]) {
			used = append(used, i)
		}
	}
	const atL1, atL2 = 1, 2 // clusters of the file
	atRefs := atL2 + tables
	blocks := 1
	for blocks*perRef < atRefs+1+blocks+len(used) {
		blocks++
	}
	atBlocks := atRefs + 1
	atData := atBlocks + blocks
	total := atData + len(used)

	head := make([]byte, atData*cluster)
	at := func(n int) []byte { return head[n*cluster:] }
	copy(head, "QFI\xfb")
	be.PutUint32(head[4:], 3)
	be.PutUint32(head[20:], bits)
	be.PutUint64(head[24:], uint64(len(disk)))
	be.PutUint32(head[36:], uint32(tables))
	be.PutUint64(head[40:], atL1*cluster)
	be.PutUint64(head[48:], uint64(atRefs*cluster))
	be.PutUint32(head[56:], 1)    // cluster of the refcount table
	be.PutUint32(head[96:], 4)    // refcounts have 16 bits
	be.PutUint32(head[100:], 104) // bytes of header
	for i := range tables {
		be.PutUint64(at(atL1)[8*i:], uint64((atL2+i)*cluster)|copied)
	}
	for n, i := range used {
		be.PutUint64(at(atL2)[8*i:], uint64((atData+n)*cluster)|copied)
	}
	for i := range blocks {
		be.PutUint64(at(atRefs)[8*i:], uint64((atBlocks+i)*cluster))
	}
	for i := range total {
		be.PutUint16(at(atBlocks)[2*i:], 1)
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, i := range used {
		c := disk[i*cluster : min((i+1)*cluster, len(disk))]
		if _, err := w.Write(append(append([]byte(nil), c...), zero[len(c):]...)); err != nil {
			return err
		}
	}
	return nil
}
