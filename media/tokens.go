package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A commitment is what a worker says of the likeliest next tokens at up to
// TokensCommitted places of a text, TopCommitted of them at each.
const (
	TokensCommitted = 32
	TopCommitted    = 4
	// MaxToken bounds the number of a token.
	MaxToken = 1<<24 - 1

	maxPoints = TokensCommitted * TopCommitted
	// field is the largest prime whose numbers fit into two bytes.
	field = 65521
	// logStep is how finely logarithms are kept.
	logStep = 1.0 / 1024
)

// NextToken is a token that may come next, and the natural logarithm of how
// likely it is, as the model has it before anything is drawn.
type NextToken struct {
	Token   int
	Logprob float64
}

// TokenCommitment is one that was read.
type TokenCommitment struct {
	modulus uint32
	coeffs  []uint32
}

// CommitTokens writes a commitment: of each place the tokens that are given, of
// which only the first TopCommitted count. 32 places with 4 tokens each are 258 bytes.
//
// The form is that of TOPLOC (Ong et al., ICML 2025): the numbers are the values
// of a polynomial over a prime field, at points that say which token of which
// place it is. Which tokens they were cannot be read out of it. Who computes the
// same ones asks for their values, and of others it says what comes to hand. So
// it lasts through small differences: a token that is among the likeliest on one
// machine alone spoils one value and no other.
func CommitTokens(places [][]NextToken) ([]byte, error) {
	if len(places) == 0 || len(places) > TokensCommitted {
		return nil, fmt.Errorf("a commitment to %d places", len(places))
	}
	var at, value []uint32
	for i, place := range places {
		for _, n := range place[:min(len(place), TopCommitted)] {
			if n.Token < 0 || n.Token > MaxToken || math.IsNaN(n.Logprob) {
				return nil, fmt.Errorf("token %d with the logarithm %v", n.Token, n.Logprob)
			}
			at = append(at, point(i, n.Token))
			value = append(value, uint32(math.Round(min(max(-n.Logprob, 0)/logStep, field-1))))
		}
	}
	if len(at) == 0 {
		return nil, errors.New("a commitment to nothing")
	}
	modulus, x := apartBy(at)
	if modulus == 0 {
		return nil, errors.New("a token is named twice")
	}
	b := binary.LittleEndian.AppendUint16(make([]byte, 0, 2+2*len(at)), uint16(modulus))
	for _, c := range through(x, value) {
		b = binary.LittleEndian.AppendUint16(b, uint16(c))
	}
	return b, nil
}

// openTokens reads a commitment that may come from a stranger.
func openTokens(b []byte) (TokenCommitment, error) {
	n := len(b)/2 - 1
	if len(b)%2 != 0 || n < 1 || n > maxPoints {
		return TokenCommitment{}, fmt.Errorf("a commitment of %d bytes", len(b))
	}
	c := TokenCommitment{modulus: uint32(binary.LittleEndian.Uint16(b)), coeffs: make([]uint32, n)}
	if int(c.modulus) < n || c.modulus > field {
		return TokenCommitment{}, fmt.Errorf("a commitment with the modulus %d", c.modulus)
	}
	for i := range c.coeffs {
		if c.coeffs[i] = uint32(binary.LittleEndian.Uint16(b[2+2*i:])); c.coeffs[i] >= field {
			return TokenCommitment{}, fmt.Errorf("a commitment with the number %d", c.coeffs[i])
		}
	}
	return c, nil
}

// Logprob is what the commitment says of a token at a place of it, and of a token
// that it is not about anything.
func (c TokenCommitment) Logprob(place, token int) float64 {
	if c.modulus == 0 {
		return 0
	}
	x, y := point(place, token)%c.modulus, uint32(0)
	for i := len(c.coeffs) - 1; i >= 0; i-- {
		y = (mul(y, x) + c.coeffs[i]) % field
	}
	return -float64(y) * logStep
}

func point(place, token int) uint32 { return uint32(place)<<24 | uint32(token)&MaxToken }

func mul(a, b uint32) uint32 { return uint32(uint64(a) * uint64(b) % field) }

// apartBy is the largest modulus that keeps all points apart, and what it makes
// of them; 0 where two are the same.
func apartBy(at []uint32) (modulus uint32, x []uint32) {
	x = make([]uint32, len(at))
	for modulus = field; int(modulus) >= len(at); modulus-- {
		seen := make(map[uint32]bool, len(at))
		for i, v := range at {
			x[i] = v % modulus
			seen[x[i]] = true
		}
		if len(seen) == len(at) {
			return modulus, x
		}
		if modulus == field && len(distinct(at)) < len(at) {
			break
		}
	}
	return 0, nil
}

func distinct(v []uint32) map[uint32]bool {
	m := make(map[uint32]bool, len(v))
	for _, x := range v {
		m[x] = true
	}
	return m
}

// through are the coefficients of the polynomial through the points, by Newton's
// divided differences.
func through(x, y []uint32) []uint32 {
	n := len(x)
	d := append([]uint32(nil), y...)
	for k := 1; k < n; k++ {
		for i := n - 1; i >= k; i-- {
			d[i] = mul((d[i]+field-d[i-1])%field, inverse((x[i]+field-x[i-k])%field))
		}
	}
	coeffs := make([]uint32, n)
	for i := n - 1; i >= 0; i-- {
		// coeffs times (X - x[i]), plus d[i].
		for k := n - 1; k > 0; k-- {
			coeffs[k] = (coeffs[k-1] + field - mul(coeffs[k], x[i])) % field
		}
		coeffs[0] = (d[i] + field - mul(coeffs[0], x[i])) % field
	}
	return coeffs
}

// inverse is by Fermat's little theorem.
func inverse(a uint32) uint32 {
	r := uint32(1)
	for e := uint32(field - 2); e > 0; e >>= 1 {
		if e&1 == 1 {
			r = mul(r, a)
		}
		a = mul(a, a)
	}
	return r
}
