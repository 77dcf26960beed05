package p2p

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// ticketPrefix begins every ticket; its number is the format's version.
const ticketPrefix = "idlewild1:"

// Ticket lets one peer into a farm. As text it is ticketPrefix and base64url
// of the encoded job.Signed (job.ContextTicket, by the root).
type Ticket struct {
	Version int       `cbor:"v"` // 1
	Farm    FarmID    `cbor:"farm"`
	Name    string    `cbor:"name"`  // of the farm
	Root    []byte    `cbor:"root"`  // peer ID of the root key
	Secret  []byte    `cbor:"once"`  // 16 random bytes: the ticket's identity, which is spent
	Inviter string    `cbor:"peer"`  // who admits
	Addrs   [][]byte  `cbor:"addrs"` // multiaddrs of the inviter
	Role    Role      `cbor:"role"`
	Expires time.Time `cbor:"expires"`
	Issued  int64     `cbor:"issued,omitempty"` // unix milliseconds; 0: by an owner that was not recovered from a backup
	Turn    int       `cbor:"turn,omitempty"`   // how often the root key was replaced until Root
	Stay    int64     `cbor:"stay,omitempty"`   // seconds for which a guest is a member; 0: a member like others
}

// stay is how long the certificate is good that the ticket gives.
func (t Ticket) stay() time.Duration {
	if t.Stay == 0 {
		return certificateLife
	}
	return time.Duration(t.Stay) * time.Second
}

// newTicket signs a ticket. What not every one needs stays out of it: a field
// that it does not know makes a program refuse the whole ticket.
func newTicket(root job.Signer, t Ticket) (string, error) {
	t.Version = 1
	t.Secret = make([]byte, 16)
	rand.Read(t.Secret)
	s, err := job.Sign(root, job.ContextTicket, t)
	if err != nil {
		return "", err
	}
	b, err := job.Encode(s)
	if err != nil {
		return "", err
	}
	if len(b) > wire.MaxTicketBytes {
		return "", fmt.Errorf("ticket of %d bytes, at most %d", len(b), wire.MaxTicketBytes)
	}
	return ticketPrefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// ParseTicket reads a ticket as a person pasted it and checks that the root
// key which it names signed it. Its time is not checked, and neither, where the
// farm's key was replaced, is whether that root is a farm's: who admits shows it.
func ParseTicket(text string) (Ticket, error) {
	malformed := func(why string) (Ticket, error) {
		return Ticket{}, fmt.Errorf("%w: %s", ErrTicketMalformed, why)
	}
	text = strings.TrimSpace(text)
	if len(text) > 2*wire.MaxTicketBytes {
		return malformed("too long")
	}
	// A terminal or a mail may have broken the line.
	text = strings.Join(strings.Fields(text), "")
	b, err := ticketBytes(text)
	if err != nil {
		return malformed(err.Error())
	}
	var s job.Signed
	if err := job.Decode(b, wire.MaxTicketBytes, &s); err != nil {
		return malformed("it is damaged or incomplete")
	}
	// The root key is inside what it signed: look at it first, then verify.
	var t Ticket
	switch err := job.Decode(s.Body, wire.MaxTicketBytes, &t); {
	case errors.Is(err, job.ErrUnknownField):
		return malformed("it is damaged, or of a newer idlewild than this one: update idlewild here")
	case err != nil:
		return malformed("it is damaged or incomplete")
	}
	root, err := peer.IDFromBytes(t.Root)
	if err != nil {
		return malformed("its key is damaged")
	}
	if err := s.Open(root, job.ContextTicket, wire.MaxTicketBytes, &t); err != nil {
		return malformed("its signature is wrong")
	}
	if t.Version != 1 || t.Turn == 0 && t.Farm != farmIDOf(root) || t.Turn < 0 || t.Turn > wire.MaxSuccessions || len(t.Secret) != 16 || len(t.Addrs) > wire.MaxAddrs || checkName(t.Name) != nil ||
		t.Stay < 0 || t.Stay > int64(certificateLife/time.Second) || (t.Stay > 0) != (t.Role == RoleGuest) {
		return malformed("its content is wrong")
	}
	if _, err := peer.Decode(t.Inviter); err != nil {
		return malformed("its inviter is wrong")
	}
	return t, nil
}

// qrPrefix begins a ticket as it stands in a QR code.
var qrPrefix = strings.ToUpper(ticketPrefix)

func ticketBytes(text string) ([]byte, error) {
	if body, ok := strings.CutPrefix(text, qrPrefix); ok {
		b, err := idEncoding.DecodeString(body)
		if err != nil || idEncoding.EncodeToString(b) != body {
			return nil, errors.New("a character is wrong or missing")
		}
		return b, nil
	}
	body, ok := strings.CutPrefix(text, ticketPrefix)
	if !ok {
		return nil, errors.New("it does not begin with " + ticketPrefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return nil, errors.New("a character is wrong or missing")
	}
	return b, nil
}

// TicketForQR writes a ticket for a QR code: in capital letters and digits, for
// which such a code has a mode that takes a fifth less room than base64. As text
// it is a ticket like any other.
func TicketForQR(text string) (string, error) {
	if _, err := ParseTicket(text); err != nil {
		return "", err
	}
	b, err := ticketBytes(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return "", err
	}
	return qrPrefix + idEncoding.EncodeToString(b), nil
}

func (t Ticket) root() peer.ID { return peer.ID(t.Root) }

// inviter returns the peer that admits and where it listens.
func (t Ticket) inviter() peer.AddrInfo {
	p, _ := peer.Decode(t.Inviter) // ParseTicket looked
	return peer.AddrInfo{ID: p, Addrs: addrsFrom(t.Addrs)}
}

// addrsFrom reads multiaddrs from the wire or the disk; what cannot be read
// is left out, and so is all after the first wire.MaxAddrs.
func addrsFrom(bs [][]byte) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, b := range bs[:min(len(bs), wire.MaxAddrs)] {
		if len(b) > wire.MaxAddrBytes {
			continue
		}
		if a, err := ma.NewMultiaddrBytes(b); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func addrBytes(as []ma.Multiaddr) [][]byte {
	var out [][]byte
	for _, a := range as[:min(len(as), wire.MaxAddrs)] {
		out = append(out, a.Bytes())
	}
	return out
}
