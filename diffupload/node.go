package diffupload

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
)

// The manifest format, version 1.
//
// A manifest is a DAG of blocks. A leaf is a chunk: CIDv1 raw, 1 to
// MaxBlockBytes bytes of a file. Every other block is a node: CIDv1 dag-cbor,
// at most MaxBlockBytes. All have the same hash, sha2-256 or blake3. A node is one DAG-CBOR map (RFC 8949 core
// deterministic: shortest integers, definite lengths, keys sorted by their
// encoding), with exactly the keys below, all of them always present but where
// it says otherwise. A link is tag 42 around the bytes 0x00 and the CID.
// Integers are not negative. A reader refuses what differs in one byte from how
// it would itself encode it.
//
//	file node
//	  v         1
//	  type      "file"
//	  size      bytes of the file as stored: the sum of the links' sizes
//	  mode      1 where the owner may execute the file, else 0
//	  encoding  "" bytes as they were; "blend-open" a .blend that was gzip or
//	            zstd on the artist's disk and is stored without that container
//	  depth     0: links are chunks; d > 0: links are part nodes of depth d-1
//	  links     at most MaxLinks maps {cid, size}, in the order of the file;
//	            size is the bytes of the file below that link, at least 1
//
//	part node: a run of a long file's links
//	  v, type "part", size, depth, links: as above, at least one link
//
//	tree node: a folder
//	  v         1
//	  type      "tree"
//	  size      sum of the entries' sizes
//	  depth     0: entries are files and folders; d > 0: entries are shards,
//	            tree nodes of depth d-1 that hold a run of the folder's entries
//	  entries   at most MaxLinks maps, names strictly ascending by bytes, each
//	            with kind, name, size and what its kind needs:
//	              "inline"  a file of at most MaxInlineBytes: data, its bytes,
//	                        left out where it is empty
//	              "chunk"   a file that is one chunk: cid, the chunk
//	              "file"    any file: cid, its file node
//	              "tree"    a folder: cid, its tree node
//	              "shard"   cid, a tree node; the name is its first entry's
//	            inline and chunk are files with encoding "", and have mode 1
//	            where the owner may execute the file; elsewhere and otherwise
//	            there is no mode. Folders below the root and shards have at
//	            least one entry.
//
// A name is one component: UTF-8, 1 to 255 bytes, not "." or "..", without
// NUL, slash, backslash and colon; with its folders it has at most MaxNameBytes.
//
// How long lists are cut is the writer's choice; this one cuts where the
// content says so (see leveled), so that an insertion leaves other nodes alone.
// This one also stores every file with encoding "" inline where it can, and
// else as a chunk where it can: thousands of small files cost what their bytes
// cost.
const (
	MaxLinks       = 1024 // links or entries of one node
	MaxInlineBytes = 1024 // of a file that stands in its folder's entry
	maxDepth       = 8    // levels of parts or shards

	// MaxTreeBytes bounds the size of a whole manifest's files.
	MaxTreeBytes = 1 << 50
)

// Encoding says how a file's stored bytes relate to those on the artist's disk.
type Encoding string

// Encodings.
const (
	Plain          Encoding = ""                // the same bytes
	BlendOpen      Encoding = "blend-open"      // a .blend without its compression
	BlendCanonical Encoding = "blend-canonical" // a .blend in canonical form, see package blendfile
	PNGOpen        Encoding = "png-open"        // a PNG whose pixels are not deflated, see package imagefile
	EXROpen        Encoding = "exr-open"        // an OpenEXR file whose chunks are not deflated, see package imagefile
)

func (e Encoding) known() bool {
	switch e {
	case Plain, BlendOpen, BlendCanonical, PNGOpen, EXROpen:
		return true
	}
	return false
}

// EntryKind says what an Entry leads to.
type EntryKind string

// Kinds of entries.
const (
	KindInline EntryKind = "inline" // a small file, here
	KindChunk  EntryKind = "chunk"  // a file of one chunk
	KindFile   EntryKind = "file"   // a file, by its node
	KindTree   EntryKind = "tree"   // a folder
	KindShard  EntryKind = "shard"  // a part of this folder
)

// Node is a FileNode, PartNode or TreeNode.
type Node interface {
	validate() error
}

// FileNode is the description of one file.
type FileNode struct {
	V        int      `cbor:"v"`
	Type     string   `cbor:"type"`
	Size     int64    `cbor:"size"`
	Mode     int      `cbor:"mode"` // 1: executable
	Encoding Encoding `cbor:"encoding"`
	Depth    int      `cbor:"depth"`
	Links    []Link   `cbor:"links"`
}

// PartNode is a run of a long file's links.
type PartNode struct {
	V     int    `cbor:"v"`
	Type  string `cbor:"type"`
	Size  int64  `cbor:"size"`
	Depth int    `cbor:"depth"`
	Links []Link `cbor:"links"`
}

// Link leads from a file or part to a chunk or part.
type Link struct {
	CID  Ref   `cbor:"cid"`
	Size int64 `cbor:"size"`
}

// TreeNode is a folder, or a shard of one.
type TreeNode struct {
	V       int     `cbor:"v"`
	Type    string  `cbor:"type"`
	Size    int64   `cbor:"size"`
	Depth   int     `cbor:"depth"`
	Entries []Entry `cbor:"entries"`
}

// Entry is one name in a folder, or, where it says so, in a whole tree.
type Entry struct {
	Name string    `cbor:"name"`
	CID  Ref       `cbor:"cid,omitzero"` // undefined where Kind is KindInline
	Size int64     `cbor:"size"`
	Kind EntryKind `cbor:"kind"`
	Mode int       `cbor:"mode,omitempty"` // 1: executable; of KindInline and KindChunk
	Data []byte    `cbor:"data,omitempty"` // of KindInline
}

// Same reports whether two entries, whatever their names, lead to the same
// content.
func (e Entry) Same(o Entry) bool {
	return e.CID == o.CID && e.Size == o.Size && e.Kind == o.Kind && e.Mode == o.Mode && bytes.Equal(e.Data, o.Data)
}

// Ref is a CID that is encoded as a DAG-CBOR link.
type Ref struct{ cid.Cid }

// linkHead is what stands before the CID of a link: tag 42, a byte string of
// 37 bytes, the multibase prefix 0x00.
var linkHead = []byte{0xd8, 0x2a, 0x58, cidBytes + 1, 0x00}

// MarshalCBOR implements cbor.Marshaler.
func (r Ref) MarshalCBOR() ([]byte, error) {
	if err := CheckID(r.Cid); err != nil {
		return nil, err
	}
	return append(bytes.Clone(linkHead), r.Bytes()...), nil
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (r *Ref) UnmarshalCBOR(b []byte) error {
	if !bytes.HasPrefix(b, linkHead) || len(b) != len(linkHead)+cidBytes {
		return errors.New("not a link")
	}
	c, err := cid.Cast(b[len(linkHead):])
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	r.Cid = c
	return CheckID(c)
}

var nodeEnc = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // options are constant
	}
	return m
}()

var nodeDec, headDec = func() (cbor.DecMode, cbor.DecMode) {
	o := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		MaxNestedLevels:  8,
		MaxArrayElements: MaxLinks,
		MaxMapPairs:      16,
	}
	head, err := o.DecMode()
	if err != nil {
		panic(err)
	}
	o.ExtraReturnErrors = cbor.ExtraDecErrorUnknownField
	strict, err := o.DecMode()
	if err != nil {
		panic(err)
	}
	return strict, head
}()

// EncodeNode returns the one encoding of n and its address with sha2-256.
func EncodeNode(n Node) (Block, error) { return SHA256.EncodeNode(n) }

// EncodeNode returns the one encoding of n and its address.
func (h Hash) EncodeNode(n Node) (Block, error) {
	b, err := encode(n)
	if err != nil {
		return Block{}, err
	}
	return Block{ID: h.NodeID(b), Data: b}, nil
}

func encode(n Node) ([]byte, error) {
	if err := n.validate(); err != nil {
		return nil, err
	}
	b, err := nodeEnc.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("manifest node: %w", err)
	}
	if len(b) > MaxBlockBytes {
		return nil, fmt.Errorf("manifest node of %d bytes", len(b))
	}
	return b, nil
}

// DecodeNode reads what EncodeNode wrote, as *FileNode, *PartNode or *TreeNode.
// It refuses anything that it would encode otherwise.
func DecodeNode(b []byte) (Node, error) {
	if len(b) > MaxBlockBytes {
		return nil, fmt.Errorf("manifest node of %d bytes", len(b))
	}
	var head struct {
		V    int    `cbor:"v"`
		Type string `cbor:"type"`
	}
	if err := headDec.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("manifest node: %w", err)
	}
	if head.V != 1 {
		return nil, fmt.Errorf("manifest node: version %d, this program knows 1", head.V)
	}
	var n Node
	switch head.Type {
	case "file":
		n = new(FileNode)
	case "part":
		n = new(PartNode)
	case "tree":
		n = new(TreeNode)
	default:
		return nil, fmt.Errorf("manifest node: unknown type %q", head.Type)
	}
	if err := nodeDec.Unmarshal(b, n); err != nil {
		return nil, fmt.Errorf("manifest node: %w", err)
	}
	again, err := encode(n)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, errors.New("manifest node: not in its one encoding")
	}
	return n, nil
}

func (n *FileNode) validate() error {
	switch {
	case n.V != 1 || n.Type != "file":
		return fmt.Errorf("file node: version %d type %q", n.V, n.Type)
	case n.Mode != 0 && n.Mode != 1:
		return fmt.Errorf("file node: mode %d", n.Mode)
	case !n.Encoding.known():
		return fmt.Errorf("file node: unknown encoding %q", n.Encoding)
	case n.Depth > 0 && len(n.Links) == 0:
		return errors.New("file node: depth without links")
	}
	return validateLinks("file node", n.Size, n.Depth, n.Links)
}

func (n *PartNode) validate() error {
	switch {
	case n.V != 1 || n.Type != "part":
		return fmt.Errorf("part node: version %d type %q", n.V, n.Type)
	case len(n.Links) == 0:
		return errors.New("part node: no links")
	}
	return validateLinks("part node", n.Size, n.Depth, n.Links)
}

func validateLinks(what string, size int64, depth int, links []Link) error {
	if size < 0 || size > MaxFileBytes || depth < 0 || depth > maxDepth || len(links) > MaxLinks || links == nil {
		return fmt.Errorf("%s: size %d, depth %d, %d links", what, size, depth, len(links))
	}
	rest := size
	for i, l := range links {
		if err := CheckID(l.CID.Cid); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if i > 0 && hashOf(l.CID.Cid) != hashOf(links[0].CID.Cid) {
			return fmt.Errorf("%s: links with two hashes", what)
		}
		codec, most := uint64(cid.Raw), int64(MaxBlockBytes)
		if depth > 0 {
			codec, most = cid.DagCBOR, MaxFileBytes
		}
		if l.CID.Type() != codec || l.Size < 1 || l.Size > most || l.Size > rest {
			return fmt.Errorf("%s: link to %s with size %d", what, l.CID, l.Size)
		}
		rest -= l.Size
	}
	if rest != 0 {
		return fmt.Errorf("%s: %d bytes that no link covers", what, rest)
	}
	return nil
}

func (n *TreeNode) validate() error {
	if n.V != 1 || n.Type != "tree" {
		return fmt.Errorf("tree node: version %d type %q", n.V, n.Type)
	}
	if n.Size < 0 || n.Size > MaxTreeBytes || n.Depth < 0 || n.Depth > maxDepth || len(n.Entries) > MaxLinks || n.Entries == nil ||
		n.Depth > 0 && len(n.Entries) == 0 {
		return fmt.Errorf("tree node: size %d, depth %d, %d entries", n.Size, n.Depth, len(n.Entries))
	}
	rest := n.Size
	var hash Hash
	for i, e := range n.Entries {
		if err := safeComponent(e.Name); err != nil {
			return fmt.Errorf("tree node: %w", err)
		}
		if i > 0 && n.Entries[i-1].Name >= e.Name {
			return fmt.Errorf("tree node: %q after %q", e.Name, n.Entries[i-1].Name)
		}
		if (e.Kind == KindShard) != (n.Depth > 0) {
			return fmt.Errorf("tree node: entry %q of kind %q", e.Name, e.Kind)
		}
		if err := e.validate(); err != nil {
			return fmt.Errorf("tree node: entry %q: %w", e.Name, err)
		}
		if e.Size > rest {
			return fmt.Errorf("tree node: entry %q with size %d", e.Name, e.Size)
		}
		if e.Kind != KindInline {
			if hash != 0 && hashOf(e.CID.Cid) != hash {
				return errors.New("tree node: links with two hashes")
			}
			hash = hashOf(e.CID.Cid)
		}
		rest -= e.Size
	}
	if rest != 0 {
		return fmt.Errorf("tree node: %d bytes that no entry covers", rest)
	}
	return nil
}

// validate checks all but the name.
func (e Entry) validate() error {
	var (
		codec = uint64(cid.DagCBOR)
		most  = int64(MaxTreeBytes)
		modes = 0
	)
	switch e.Kind {
	case KindInline:
		if e.CID.Defined() || int64(len(e.Data)) != e.Size || e.Size > MaxInlineBytes || e.Mode != 0 && e.Mode != 1 {
			return fmt.Errorf("inline, with size %d, %d bytes and mode %d", e.Size, len(e.Data), e.Mode)
		}
		return nil
	case KindChunk:
		codec, most, modes = cid.Raw, MaxBlockBytes, 1
	case KindFile:
		most = MaxFileBytes
	case KindTree, KindShard:
	default:
		return fmt.Errorf("of kind %q", e.Kind)
	}
	if err := CheckID(e.CID.Cid); err != nil {
		return err
	}
	if e.CID.Type() != codec || e.Size < 0 || e.Size > most || codec == cid.Raw && e.Size == 0 ||
		len(e.Data) > 0 || e.Mode < 0 || e.Mode > modes {
		return fmt.Errorf("%s, with size %d and mode %d", e.Kind, e.Size, e.Mode)
	}
	return nil
}
