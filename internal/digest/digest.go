// Package digest computes the digests that the address of a block may have.
package digest

import (
	"crypto/sha256"

	mh "github.com/multiformats/go-multihash"
	"github.com/zeebo/blake3"
)

// Codes of the multihash table. A weaker hash, or the identity, would let a
// peer choose the content of an address.
const (
	SHA256 = mh.SHA2_256
	BLAKE3 = 0x1e
)

// Size is that of every digest here, in bytes.
const Size = 32

// Sum returns the digest of data; false where the code is none of the above.
func Sum(code uint64, data []byte) ([Size]byte, bool) {
	switch code {
	case SHA256:
		return sha256.Sum256(data), true
	case BLAKE3:
		return blake3.Sum256(data), true
	}
	return [Size]byte{}, false
}
