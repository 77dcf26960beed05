package diffupload

import (
	"fmt"

	"github.com/ipfs/go-cid"

	"idlewild/internal/digest"
)

// Hash is the function that addresses are made with, by its multihash code. A
// manifest is of one. The zero value is SHA256.
type Hash uint64

// Hashes.
const (
	SHA256 Hash = digest.SHA256 // sha2-256
	BLAKE3 Hash = digest.BLAKE3
)

// Known says whether blocks here may be addressed with h.
func (h Hash) Known() bool { return h == 0 || h == SHA256 || h == BLAKE3 }

// ChunkID is the address of a chunk: CIDv1, raw.
func (h Hash) ChunkID(data []byte) cid.Cid { return h.blockID(cid.Raw, data) }

// NodeID is the address of an encoded node: CIDv1, dag-cbor.
func (h Hash) NodeID(data []byte) cid.Cid { return h.blockID(cid.DagCBOR, data) }

func (h Hash) blockID(codec byte, data []byte) cid.Cid {
	if h == 0 {
		h = SHA256
	}
	sum, ok := digest.Sum(uint64(h), data)
	if !ok {
		panic(fmt.Sprintf("hash %#x", uint64(h))) // Options and CheckID refuse it before
	}
	var b [cidBytes]byte
	b[0], b[1], b[2], b[3] = 1, codec, byte(h), digest.Size
	copy(b[4:], sum[:])
	id, err := cid.Cast(b[:])
	if err != nil {
		panic(err) // the bytes are right
	}
	return id
}

// ChunkID is the address of a chunk with sha2-256.
func ChunkID(data []byte) cid.Cid { return SHA256.ChunkID(data) }

// NodeID is the address of an encoded node with sha2-256.
func NodeID(data []byte) cid.Cid { return SHA256.NodeID(data) }

// CheckID says whether id is an address that blocks here can have: CIDv1, raw
// or dag-cbor, sha2-256 or blake3 of 32 bytes.
func CheckID(id cid.Cid) error {
	b := id.KeyString()
	if len(b) != cidBytes || b[0] != 1 || b[1] != cid.Raw && b[1] != cid.DagCBOR ||
		Hash(b[2]) != SHA256 && Hash(b[2]) != BLAKE3 || b[3] != digest.Size {
		return fmt.Errorf("address %q is not a CIDv1 of raw or dag-cbor with sha2-256 or blake3", id)
	}
	return nil
}

// hashOf is the hash of an address that CheckID accepts.
func hashOf(id cid.Cid) Hash { return Hash(id.KeyString()[2]) }

// cidBytes is the length of every CID that CheckID accepts.
const cidBytes = 4 + digest.Size

// VerifyBlock checks that data has an allowed size and hashes to id.
func VerifyBlock(id cid.Cid, data []byte) error {
	if err := CheckID(id); err != nil {
		return err
	}
	if len(data) > MaxBlockBytes {
		return fmt.Errorf("block %s has %d bytes, at most %d are allowed", id, len(data), MaxBlockBytes)
	}
	if hashOf(id).blockID(byte(id.Type()), data) != id {
		return fmt.Errorf("block %s: %w", id, ErrCorrupt)
	}
	return nil
}
