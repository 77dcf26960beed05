package p2p

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// FarmID names a farm: the hash of its first root public key, in lower-case
// base32. It stays when the key is replaced, see Succession.
type FarmID string

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// farmIDOf is the farm of a root key, which is written as the peer ID that it
// would have (an ed25519 peer ID holds the key itself).
func farmIDOf(root peer.ID) FarmID {
	h := sha256.Sum256(append([]byte("idlewild farm 1\x00"), root...))
	return FarmID(strings.ToLower(idEncoding.EncodeToString(h[:])))
}

// Role is what a member may do in its farm.
type Role string

const (
	RoleOwner  Role = "owner" // the node that holds the root key
	RoleMember Role = "member"
	RoleGuest  Role = "guest" // a member for a while
)

// Certificate is the root's word that a peer belongs to a farm. It travels and
// is stored as job.Signed in job.ContextMember; the peer proves that it is
// its subject by the connection, which libp2p authenticated.
type Certificate struct {
	Version int       `cbor:"v"` // 1
	Farm    FarmID    `cbor:"farm"`
	Peer    string    `cbor:"peer"`
	Name    string    `cbor:"name"` // for people
	Role    Role      `cbor:"role"`
	Issued  time.Time `cbor:"issued"`
	Expires time.Time `cbor:"expires"`
}

// openCertificate checks a certificate: signature, farm, form. Its time is
// checked where it is used, because it passes while we run.
func openCertificate(s job.Signed, root peer.ID, farm FarmID) (Certificate, peer.ID, error) {
	var c Certificate
	if err := s.Open(root, job.ContextMember, wire.MaxSignedBytes, &c); err != nil {
		return Certificate{}, "", fmt.Errorf("certificate: %w", err)
	}
	p, err := peer.Decode(c.Peer)
	switch {
	case err != nil:
		return Certificate{}, "", fmt.Errorf("certificate: peer: %w", err)
	case c.Version != 1:
		return Certificate{}, "", fmt.Errorf("certificate: version %d, this program knows 1", c.Version)
	case c.Farm != farm:
		return Certificate{}, "", fmt.Errorf("certificate: of another farm")
	case checkName(c.Name) != nil:
		return Certificate{}, "", fmt.Errorf("certificate: %w", checkName(c.Name))
	}
	return c, p, nil
}

// Revocation is the root's word that every certificate which it issued to a
// peer until At is void. A later certificate is good again.
type Revocation struct {
	Version int       `cbor:"v"` // 1
	Farm    FarmID    `cbor:"farm"`
	Peer    string    `cbor:"peer"`
	At      time.Time `cbor:"at"`
}

func openRevocation(s job.Signed, root peer.ID, farm FarmID) (Revocation, peer.ID, error) {
	var r Revocation
	if err := s.Open(root, job.ContextRevoke, wire.MaxSignedBytes, &r); err != nil {
		return Revocation{}, "", fmt.Errorf("revocation: %w", err)
	}
	p, err := peer.Decode(r.Peer)
	if err != nil || r.Version != 1 || r.Farm != farm {
		return Revocation{}, "", fmt.Errorf("revocation: not of this farm")
	}
	return r, p, nil
}

// checkName checks what a person called a farm or a member.
func checkName(name string) error {
	if name == "" || len(name) > wire.MaxNameBytes || !utf8.ValidString(name) {
		return fmt.Errorf("name %.40q: 1 to %d bytes of UTF-8 are wanted", name, wire.MaxNameBytes)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("name %.40q: not printable", name)
	}
	return nil
}

// Reasons for which somebody is not let in. Errors that match one carry a
// sentence that can be shown as it is.
var (
	ErrTicketMalformed = errors.New("this is not a valid ticket")
	ErrTicketExpired   = errors.New("the ticket has expired")
	ErrTicketUsed      = errors.New("the ticket was used already")
	ErrOtherFarm       = errors.New("for another farm")
	ErrRevoked         = errors.New("this peer's membership was revoked")
	ErrNotMember       = errors.New("not a member of the farm")
	ErrNoFarm          = errors.New("this node is in no farm: create one with `idlewild farm create`, or join one with a ticket")
	ErrNotOwner        = errors.New("only the farm's owner can do this: the root key is not on this node")
)
