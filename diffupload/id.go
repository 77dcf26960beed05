package diffupload

import (
	"crypto/sha256"
	"fmt"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// ChunkID is the address of a chunk: CIDv1, raw, sha2-256.
func ChunkID(data []byte) cid.Cid { return blockID(cid.Raw, data) }

// NodeID is the address of an encoded node: CIDv1, dag-cbor, sha2-256.
func NodeID(data []byte) cid.Cid { return blockID(cid.DagCBOR, data) }

func blockID(codec uint64, data []byte) cid.Cid {
	sum := sha256.Sum256(data)
	h, err := mh.Encode(sum[:], mh.SHA2_256)
	if err != nil {
		panic(err) // the length is right
	}
	return cid.NewCidV1(codec, h)
}

// CheckID says whether id is an address that blocks here can have: CIDv1, raw
// or dag-cbor, sha2-256.
func CheckID(id cid.Cid) error {
	b := id.Bytes()
	if len(b) != cidBytes || b[0] != 1 || b[1] != cid.Raw && b[1] != cid.DagCBOR || b[2] != mh.SHA2_256 || b[3] != sha256.Size {
		return fmt.Errorf("address %q is not a CIDv1 of raw or dag-cbor with sha2-256", id)
	}
	return nil
}

// cidBytes is the length of every CID that CheckID accepts.
const cidBytes = 4 + sha256.Size

// VerifyBlock checks that data has an allowed size and hashes to id.
func VerifyBlock(id cid.Cid, data []byte) error {
	if err := CheckID(id); err != nil {
		return err
	}
	if len(data) > MaxBlockBytes {
		return fmt.Errorf("block %s has %d bytes, at most %d are allowed", id, len(data), MaxBlockBytes)
	}
	if blockID(id.Type(), data) != id {
		return fmt.Errorf("block %s: %w", id, ErrCorrupt)
	}
	return nil
}
