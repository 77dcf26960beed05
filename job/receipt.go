package job

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Receipt is the worker's account of an attempt at some tasks of one lease.
// It is signed before the secrets of those tasks are shown.
type Receipt struct {
	Version   int     `cbor:"v"` // 1
	Requester string  `cbor:"requester"`
	Worker    string  `cbor:"worker"`
	Job       ID      `cbor:"job"`
	Lease     LeaseID `cbor:"lease"`
	Epoch     uint64  `cbor:"epoch"`
	Leaves    []Leaf  `cbor:"leaves"`
}

// Leaf is the account of one task.
type Leaf struct {
	Task    TaskKey  `cbor:"task"`
	Fence   uint64   `cbor:"fence"`
	Outcome Outcome  `cbor:"outcome"`
	Reason  string   `cbor:"reason,omitempty"` // of anything but succeeded: one sentence
	Outputs []Output `cbor:"outputs,omitempty"`
	Log     Ref      `cbor:"log"`                // the task's own output
	LogTail string   `cbor:"log_tail,omitempty"` // its end, where the task did not succeed
	Meter   Meter    `cbor:"meter"`
	// Device is the slot that the lease was for. That a device of its sort did
	// the work was asserted after the task: otherwise it is broken.
	Device      string `cbor:"device"`
	DeviceClass string `cbor:"device_class"`
	Runner      string `cbor:"runner"` // CID of the runner's files
	Build       string `cbor:"build"`  // of the program that did the work: version, hash, origin
}

// Root is what a challenge is drawn from, together with the secret: the
// sha2-256 of the leaf's encoding, which covers every output.
func (l Leaf) Root() [32]byte {
	b, err := Encode(l)
	if err != nil {
		panic(fmt.Sprintf("leaf: %v", err)) // its fields always encode
	}
	return sha256.Sum256(b)
}

// Output is one file that a task left.
type Output struct {
	Name  string `cbor:"name"` // the OutputRule's
	Media Media  `cbor:"media"`
	File  Ref    `cbor:"file"` // manifest node of the file's bytes
	Bytes int64  `cbor:"bytes"`
	// Pixels is the root over the hashes of the decoded image's tiles
	// (media.TileRoot); empty for files that are no images.
	Pixels []byte `cbor:"pixels,omitempty"`
}

// Validate checks the bounds of an output that a peer described.
func (o Output) Validate() error {
	if err := SafeName(o.Name); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	if !o.File.Defined() || o.Bytes < 0 || (len(o.Pixels) != 0 && len(o.Pixels) != 32) {
		return fmt.Errorf("output %q: bad reference", o.Name)
	}
	return nil
}

// Meter is what an attempt cost, by the worker's own clock.
type Meter struct {
	Wall   time.Duration `cbor:"wall"`   // from start to end of the task
	Render time.Duration `cbor:"render"` // of it, computing the picture
	Load   time.Duration `cbor:"load"`   // of it, starting and loading: 0 in a warm session
	CPU    time.Duration `cbor:"cpu"`    // processor time, all threads
	Peak   int64         `cbor:"peak"`   // bytes of memory at the highest
	// VRAM is bytes of the GPU's memory at the highest, as far as that can be told;
	// 0: it cannot. It is there only where the requester reads it (Lease.Memory).
	VRAM int64 `cbor:"vram,omitempty"`
}

// Signed is an encoded value with its author's signature. What is verified is
// the exact bytes received; they are never encoded again.
type Signed struct {
	Body []byte `cbor:"body"`
	Sig  []byte `cbor:"sig"`
}

// Signer signs with a peer's identity key; libp2p's crypto.PrivKey is one.
type Signer interface {
	Sign(data []byte) ([]byte, error)
}

// Signature contexts: a signature made for one use is worthless for another.
const (
	ContextReceipt  = "idlewild receipt 1\x00"
	ContextRead     = "idlewild read grant 1\x00"
	ContextTicket   = "idlewild ticket 1\x00"
	ContextMember   = "idlewild member 1\x00"
	ContextOpening  = "idlewild opening 1\x00"
	ContextStranger = "idlewild stranger 1\x00"
	ContextRevoke   = "idlewild revoke 1\x00"
	// ContextContentKey is for the key by which a farm cuts content.
	ContextContentKey = "idlewild content key 1\x00"
	ContextSuccession = "idlewild succession 1\x00"
	ContextOffer      = "idlewild offer 1\x00"
	ContextVerdict    = "idlewild verdict 1\x00"
	// ContextWord is for what a member tells the others about a third.
	ContextWord = "idlewild word 1\x00"
	// ContextDelegation is for the right to go on with a job.
	ContextDelegation = "idlewild delegation 1\x00"
)

// Sign encodes v and signs it for one context.
func Sign(key Signer, context string, v any) (Signed, error) {
	body, err := Encode(v)
	if err != nil {
		return Signed{}, err
	}
	sig, err := key.Sign(append([]byte(context), body...))
	if err != nil {
		return Signed{}, fmt.Errorf("sign: %w", err)
	}
	return Signed{Body: body, Sig: sig}, nil
}

// Open checks that author signed s for that context and decodes it into v. The
// body may have at most max bytes.
func (s Signed) Open(author peer.ID, context string, max int, v any) error {
	if len(s.Body) > max || len(s.Sig) > 256 {
		return fmt.Errorf("signed value of %d bytes where at most %d are allowed", len(s.Body), max)
	}
	pub, err := author.ExtractPublicKey()
	if err != nil {
		return fmt.Errorf("key of %s: %w", author, err)
	}
	ok, err := pub.Verify(append([]byte(context), s.Body...), s.Sig)
	if err != nil || !ok {
		return fmt.Errorf("not signed by %s", author)
	}
	return Decode(s.Body, max, v)
}

// SignReceipt signs r as its worker.
func SignReceipt(key Signer, r Receipt) (Signed, error) { return Sign(key, ContextReceipt, r) }

// OpenReceipt checks a receipt that worker sent: signature, bounds, and that
// it names this worker and this requester.
func OpenReceipt(s Signed, worker, requester peer.ID) (Receipt, error) {
	var r Receipt
	if err := s.Open(worker, ContextReceipt, MaxReceiptBytes, &r); err != nil {
		return Receipt{}, fmt.Errorf("receipt: %w", err)
	}
	switch {
	case r.Version != 1:
		return Receipt{}, fmt.Errorf("receipt: version %d, this program knows 1", r.Version)
	case r.Worker != worker.String() || r.Requester != requester.String():
		return Receipt{}, fmt.Errorf("receipt: names other peers")
	case len(r.Leaves) == 0 || len(r.Leaves) > MaxTasksPerLease:
		return Receipt{}, fmt.Errorf("receipt: %d leaves", len(r.Leaves))
	}
	for _, l := range r.Leaves {
		if !l.Outcome.Valid() || len(l.Outputs) > MaxOutputs || len(l.Reason) > MaxReasonBytes || len(l.LogTail) > MaxLogTailBytes {
			return Receipt{}, fmt.Errorf("receipt: leaf over its bounds")
		}
		if l.Meter.Wall < 0 || l.Meter.Render < 0 || l.Meter.Load < 0 || l.Meter.CPU < 0 || l.Meter.Peak < 0 || l.Meter.VRAM < 0 {
			return Receipt{}, fmt.Errorf("receipt: negative metering")
		}
		for _, o := range l.Outputs {
			if err := o.Validate(); err != nil {
				return Receipt{}, fmt.Errorf("receipt: %w", err)
			}
		}
	}
	return r, nil
}

// ReadGrant is a requester's word that a peer may read a job's content until
// it expires. Peers show it to each other.
type ReadGrant struct {
	Version int       `cbor:"v"` // 1
	Job     ID        `cbor:"job"`
	Root    Ref       `cbor:"root"` // manifest of the job's content
	Reader  string    `cbor:"reader"`
	Expires time.Time `cbor:"expires"`
}

// OpenReadGrant checks that requester granted reader the job's content, and
// that the grant has not expired at now.
func OpenReadGrant(s Signed, requester, reader peer.ID, now time.Time) (ReadGrant, error) {
	var g ReadGrant
	if err := s.Open(requester, ContextRead, 4096, &g); err != nil {
		return ReadGrant{}, fmt.Errorf("read grant: %w", err)
	}
	if g.Version != 1 || g.Reader != reader.String() {
		return ReadGrant{}, fmt.Errorf("read grant: not for %s", reader)
	}
	if now.After(g.Expires) {
		return ReadGrant{}, fmt.Errorf("read grant: expired")
	}
	return g, nil
}

// HashSecret is the commitment to a challenge's secret.
func HashSecret(secret []byte) []byte {
	h := sha256.Sum256(append([]byte("idlewild secret 1\x00"), secret...))
	return h[:]
}

// SecretMatches reports whether secret is what hash committed to.
func SecretMatches(secret, hash []byte) bool { return bytes.Equal(HashSecret(secret), hash) }
