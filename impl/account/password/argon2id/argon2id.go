// Copyright 2017 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in the LICENSE file.

// Package argon2id derives keys by Argon2id, version 1.3, of RFC 9106, in memory that the
// caller gives and may use again.
//
// It is a fork of golang.org/x/crypto/argon2, which takes its memory afresh for each key;
// LICENSE has the terms of that, which hold for this package. What differs: Argon2id is
// the only mode, the memory is the caller's and need not be zero, as the first pass
// overwrites it (there, it is added to what it found), one lane is computed without
// another goroutine, and of the assembly there is amd64's alone, with a way for AVX2 that is
// new.
package argon2id

import (
	"encoding/binary"
	"hash"
	"sync"

	"golang.org/x/crypto/blake2b"
)

// Version is the version of Argon2 that this package implements.
const Version = 0x13

const (
	mode        = 2 // Argon2id's number
	blockLength = 128
	syncPoints  = 4
)

// A Block is what memory is counted in: 1 KiB.
type Block [blockLength]uint64

// Blocks is how many blocks Key needs: memory, rounded to what the lanes can share.
func Blocks(memory uint32, threads uint8) int {
	each := syncPoints * uint32(threads)
	return int(max(memory/each*each, 2*each))
}

// Key derives a key of keyLen bytes from a password and a salt with a cost: passes over
// the memory, KiB of memory, and lanes, which are computed at the same time. It works in
// area. What that held does not matter, what it holds afterwards derives from the
// password, and whoever reads it can try passwords at next to no cost. Key panics
// when area is smaller than Blocks(memory, threads), and when time or threads is 0.
func Key(area []Block, password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
	return deriveKey(area, password, salt, nil, nil, time, memory, threads, keyLen)
}

func deriveKey(area []Block, password, salt, secret, data []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
	if time < 1 {
		panic("argon2id: number of rounds too small")
	}
	if threads < 1 {
		panic("argon2id: parallelism degree too low")
	}
	h0 := initHash(password, salt, secret, data, time, memory, uint32(threads), keyLen)
	B := area[:Blocks(memory, threads)]
	initBlocks(B, &h0, uint32(threads))
	processBlocks(B, time, uint32(threads))
	return extractKey(B, uint32(threads), keyLen)
}

func initHash(password, salt, secret, data []byte, time, memory, threads, keyLen uint32) [blake2b.Size + 8]byte {
	var (
		h0     [blake2b.Size + 8]byte
		params [24]byte
		tmp    [4]byte
	)
	b2, _ := blake2b.New512(nil)
	binary.LittleEndian.PutUint32(params[0:4], threads)
	binary.LittleEndian.PutUint32(params[4:8], keyLen)
	binary.LittleEndian.PutUint32(params[8:12], memory)
	binary.LittleEndian.PutUint32(params[12:16], time)
	binary.LittleEndian.PutUint32(params[16:20], uint32(Version))
	binary.LittleEndian.PutUint32(params[20:24], uint32(mode))
	b2.Write(params[:])
	for _, field := range [][]byte{password, salt, secret, data} {
		binary.LittleEndian.PutUint32(tmp[:], uint32(len(field)))
		b2.Write(tmp[:])
		b2.Write(field)
	}
	b2.Sum(h0[:0])
	return h0
}

// initBlocks makes the first two blocks of each lane.
func initBlocks(B []Block, h0 *[blake2b.Size + 8]byte, threads uint32) {
	var block0 [1024]byte
	for lane := range threads {
		first := lane * (uint32(len(B)) / threads)
		binary.LittleEndian.PutUint32(h0[blake2b.Size+4:], lane)
		for j := range uint32(2) {
			binary.LittleEndian.PutUint32(h0[blake2b.Size:], j)
			blake2bHash(block0[:], h0[:])
			for i := range B[first+j] {
				B[first+j][i] = binary.LittleEndian.Uint64(block0[i*8:])
			}
		}
	}
}

func processBlocks(B []Block, time, threads uint32) {
	for n := range time {
		for slice := range uint32(syncPoints) {
			if threads == 1 {
				processSegment(B, time, threads, n, slice, 0)
				continue
			}
			var wg sync.WaitGroup
			for lane := range threads {
				wg.Go(func() { processSegment(B, time, threads, n, slice, lane) })
			}
			wg.Wait()
		}
	}
}

func processSegment(B []Block, time, threads, n, slice, lane uint32) {
	var addresses, in, scratch Block
	memory := uint32(len(B))
	lanes := memory / threads
	segments := lanes / syncPoints
	independent := n == 0 && slice < syncPoints/2 // where blocks are chosen without regard to their content
	next := func() {
		in[6]++
		processBlock(&addresses, &in, &zero, &scratch)
		processBlock(&addresses, &addresses, &zero, &scratch)
	}
	if independent {
		in[0] = uint64(n)
		in[1] = uint64(lane)
		in[2] = uint64(slice)
		in[3] = uint64(memory)
		in[4] = uint64(time)
		in[5] = uint64(mode)
	}

	index := uint32(0)
	if n == 0 && slice == 0 {
		index = 2 // we have already generated the first two blocks
		next()
	}

	offset := lane*lanes + slice*segments + index
	var random uint64
	for index < segments {
		prev := offset - 1
		if index == 0 && slice == 0 {
			prev += lanes // last block in lane
		}
		if independent {
			if index%blockLength == 0 {
				next()
			}
			random = addresses[index%blockLength]
		} else {
			random = B[prev][0]
		}
		newOffset := indexAlpha(random, lanes, segments, threads, n, slice, lane, index)
		if n == 0 {
			processBlock(&B[offset], &B[prev], &B[newOffset], &scratch)
		} else {
			processBlockXOR(&B[offset], &B[prev], &B[newOffset], &scratch)
		}
		index, offset = index+1, offset+1
	}
}

func extractKey(B []Block, threads, keyLen uint32) []byte {
	memory := uint32(len(B))
	lanes := memory / threads
	for lane := range threads - 1 {
		for i, v := range B[(lane*lanes)+lanes-1] {
			B[memory-1][i] ^= v
		}
	}

	var block [1024]byte
	for i, v := range B[memory-1] {
		binary.LittleEndian.PutUint64(block[i*8:], v)
	}
	key := make([]byte, keyLen)
	blake2bHash(key, block[:])
	return key
}

func indexAlpha(rand uint64, lanes, segments, threads, n, slice, lane, index uint32) uint32 {
	refLane := uint32(rand>>32) % threads
	if n == 0 && slice == 0 {
		refLane = lane
	}
	m, s := 3*segments, ((slice+1)%syncPoints)*segments
	if lane == refLane {
		m += index
	}
	if n == 0 {
		m, s = slice*segments, 0
		if slice == 0 || lane == refLane {
			m += index
		}
	}
	if index == 0 || lane == refLane {
		m--
	}
	return phi(rand, uint64(m), uint64(s), refLane, lanes)
}

func phi(rand, m, s uint64, lane, lanes uint32) uint32 {
	p := rand & 0xFFFFFFFF
	p = (p * p) >> 32
	p = (p * m) >> 32
	return lane*lanes + uint32((s+m-(p+1))%uint64(lanes))
}

// blake2bHash writes a hash of in to out, which may be of any length.
func blake2bHash(out []byte, in []byte) {
	var b2 hash.Hash
	if n := len(out); n < blake2b.Size {
		b2, _ = blake2b.New(n, nil)
	} else {
		b2, _ = blake2b.New512(nil)
	}

	var buffer [blake2b.Size]byte
	binary.LittleEndian.PutUint32(buffer[:4], uint32(len(out)))
	b2.Write(buffer[:4])
	b2.Write(in)

	if len(out) <= blake2b.Size {
		b2.Sum(out[:0])
		return
	}

	outLen := len(out)
	b2.Sum(buffer[:0])
	b2.Reset()
	copy(out, buffer[:32])
	out = out[32:]
	for len(out) > blake2b.Size {
		b2.Write(buffer[:])
		b2.Sum(buffer[:0])
		copy(out, buffer[:32])
		out = out[32:]
		b2.Reset()
	}

	if outLen%blake2b.Size > 0 { // outLen > 64
		r := ((outLen + 31) / 32) - 2 // ⌈τ /32⌉-2
		b2, _ = blake2b.New(outLen-32*r, nil)
	}
	b2.Write(buffer[:])
	b2.Sum(out[:0])
}
