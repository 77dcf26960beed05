package job

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

var encMode = func() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeUnixMicro
	m, err := o.EncMode()
	if err != nil {
		panic(err) // options are constant
	}
	return m
}()

var decMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   16,
		MaxArrayElements:  1 << 20,
		MaxMapPairs:       1 << 16,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// Encode returns the deterministic encoding of v, which is hashed, signed,
// stored and sent.
func Encode(v any) ([]byte, error) { return encMode.Marshal(v) }

// ErrUnknownField is matched by Decode's refusal of a field that v does not have:
// a newer program wrote it, most likely.
var ErrUnknownField = errors.New("unknown field")

// Decode reads what Encode wrote into v, a pointer. It refuses more than max
// bytes, unknown fields, duplicate keys and trailing bytes.
func Decode(b []byte, max int, v any) error {
	if len(b) > max {
		return fmt.Errorf("%d bytes where at most %d are allowed", len(b), max)
	}
	err := decMode.Unmarshal(b, v)
	var unknown *cbor.UnknownFieldError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%w: %w", ErrUnknownField, err)
	}
	return err
}

// sum is the CID (v1, dag-cbor, sha2-256) of encoded bytes.
func sum(b []byte) cid.Cid {
	h, err := mh.Sum(b, mh.SHA2_256, -1)
	if err != nil {
		panic(err) // sha2-256 is always there
	}
	return cid.NewCidV1(cid.DagCBOR, h)
}

// Ref is a CID as a field of encoded values; the zero Ref means none.
// In CBOR it is the CID's bytes, in JSON and text its string form.
type Ref struct{ cid.Cid }

// RefOf wraps a CID.
func RefOf(c cid.Cid) Ref { return Ref{c} }

// MarshalCBOR implements cbor.Marshaler.
func (r Ref) MarshalCBOR() ([]byte, error) { return encMode.Marshal(r.Bytes()) }

// UnmarshalCBOR implements cbor.Unmarshaler.
func (r *Ref) UnmarshalCBOR(b []byte) error {
	var raw []byte
	if err := decMode.Unmarshal(b, &raw); err != nil {
		return err
	}
	if len(raw) == 0 {
		r.Cid = cid.Undef
		return nil
	}
	c, err := cid.Cast(raw)
	if err != nil {
		return fmt.Errorf("cid: %w", err)
	}
	r.Cid = c
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (r Ref) MarshalText() ([]byte, error) {
	if !r.Defined() {
		return nil, nil
	}
	return []byte(r.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Ref) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		r.Cid = cid.Undef
		return nil
	}
	c, err := cid.Decode(string(b))
	if err != nil {
		return fmt.Errorf("cid: %w", err)
	}
	r.Cid = c
	return nil
}

// MarshalJSON implements json.Marshaler (cid.Cid's own form is a link object).
func (r Ref) MarshalJSON() ([]byte, error) {
	t, err := r.MarshalText()
	return []byte(`"` + string(t) + `"`), err
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Ref) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' {
		return fmt.Errorf("cid: not a string")
	}
	return r.UnmarshalText(b[1 : len(b)-1])
}
