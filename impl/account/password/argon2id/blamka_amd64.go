// Copyright 2017 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in the LICENSE file.

//go:build amd64 && gc && !purego

package argon2id

import "golang.org/x/sys/cpu"

var (
	useSSE4 = cpu.X86.HasSSE41
	useAVX2 = cpu.X86.HasAVX2
)

//go:noescape
func setBlockAVX2(out, in1, in2, scratch *Block)

//go:noescape
func xorBlockAVX2(out, in1, in2, scratch *Block)

//go:noescape
func mixBlocksSSE2(out, a, b, c *Block)

//go:noescape
func xorBlocksSSE2(out, a, b, c *Block)

//go:noescape
func blamkaSSE4(b *Block)

func processBlock(out, in1, in2, scratch *Block) {
	if useAVX2 {
		setBlockAVX2(out, in1, in2, scratch)
		return
	}
	mixBlocksSSE2(scratch, in1, in2, &zero)
	permuteSSE(scratch)
	mixBlocksSSE2(out, in1, in2, scratch)
}

func processBlockXOR(out, in1, in2, scratch *Block) {
	if useAVX2 {
		xorBlockAVX2(out, in1, in2, scratch)
		return
	}
	mixBlocksSSE2(scratch, in1, in2, &zero)
	permuteSSE(scratch)
	xorBlocksSSE2(out, in1, in2, scratch)
}

func permuteSSE(t *Block) {
	if useSSE4 {
		blamkaSSE4(t)
	} else {
		permute(t)
	}
}
