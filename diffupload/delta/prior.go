package delta

import (
	_ "embed"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// numbers is what a stream learns about its numbers and flags.
type numbers struct {
	lengths    [numberKinds][2][64]counter               // tree of the bit length of a number
	heads      [numberKinds][48][1 << exactBelow]counter // tree of the bits below its leading one
	flags      [flagKinds]counter
	recallHits [numberKinds][recallOrders][4]counter // that a number comes again
}

// judgement is what it learns about its guesses at words.
type judgement struct {
	guess   [guesses][slotsGuess]counter // of a bit, by what a guess says of it
	weightA [setsA][inputs]int32         // of the mix, in 1/65536
	weightB [setsB][inputs]int32

	eqTab     [eqInputs - 1][1024]counter // that a word is the likeliest guess
	eqWeightA [eqSetsA][eqInputs]int32
	eqWeightB [eqSetsB][eqInputs]int32
}

// priorFile holds what both start from: it is part of the format. A test
// makes it out of pairs of files (TestTrain). It is a zstd frame.
//
//go:embed prior.bin
var priorFile []byte

type knowledge struct {
	numbers
	judgement
}

var prior = sync.OnceValue(func() *knowledge {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	defer d.Close()
	b, err := d.DecodeAll(priorFile, nil)
	if err != nil {
		panic(fmt.Errorf("prior.bin: %w", err))
	}
	k := &knowledge{}
	k.read(b)
	return k
})

// each calls the functions for all counters and all weights, in the order of
// the file.
func (k *knowledge) each(counters func([]counter), weights func([]int32)) {
	for i := range k.lengths {
		for j := range k.lengths[i] {
			counters(k.lengths[i][j][:])
		}
	}
	for i := range k.heads {
		for j := range k.heads[i] {
			counters(k.heads[i][j][:])
		}
	}
	counters(k.flags[:])
	for i := range k.recallHits {
		for j := range k.recallHits[i] {
			counters(k.recallHits[i][j][:])
		}
	}
	for i := range k.guess {
		counters(k.guess[i][:])
	}
	for i := range k.eqTab {
		counters(k.eqTab[i][:])
	}
	for i := range k.weightA {
		weights(k.weightA[i][:])
	}
	for i := range k.weightB {
		weights(k.weightB[i][:])
	}
	for i := range k.eqWeightA {
		weights(k.eqWeightA[i][:])
	}
	for i := range k.eqWeightB {
		weights(k.eqWeightB[i][:])
	}
}

// read takes the bytes of a prior: of each counter the stretched probability
// in 1/16 as a signed byte and how often it was told; of each weight the
// difference to the default, in 1/1024, little endian.
func (k *knowledge) read(b []byte) {
	k.each(func(cs []counter) {
		for i := range cs {
			cs[i] = counter(squash(int32(int8(b[0]))*16))<<16 | counter(b[1])
			b = b[2:]
		}
	}, func(ws []int32) {
		for i := range ws {
			ws[i] = int32(int16(uint16(b[0])|uint16(b[1])<<8)) << 6
			b = b[2:]
		}
	})
	if len(b) != 0 {
		panic(fmt.Sprintf("prior.bin: %d bytes too many", len(b)))
	}
}
