package p2p

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// ContentKey is the root's word on the key by which members cut content into
// chunks. It is a secret of the farm: it goes to members only, in details, and
// lies in the farm's folder. Of two the later issued one counts.
type ContentKey struct {
	Version int       `cbor:"v"` // 1
	Farm    FarmID    `cbor:"farm"`
	Key     []byte    `cbor:"key"` // 32 bytes
	Issued  time.Time `cbor:"issued"`
}

const contentKeyMagic = "idlewild content key 1\n"

// contentState is the farm's content key as this node knows it.
type contentState struct {
	signed job.Signed
	key    [32]byte
	issued time.Time // zero: not known
}

// ContentKey returns the farm's content key; false where this node is in no
// farm, or its farm's owner has not made one yet.
func (m *Membership) ContentKey() ([32]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.content.key, m.root != "" && !m.content.issued.IsZero()
}

func (m *Membership) openContentKey(s job.Signed, root peer.ID) (contentState, error) {
	var k ContentKey
	if err := s.Open(root, job.ContextContentKey, wire.MaxSignedBytes, &k); err != nil {
		return contentState{}, fmt.Errorf("content key: %w", err)
	}
	if k.Version != 1 || k.Farm != m.id || len(k.Key) != 32 || [32]byte(k.Key) == ([32]byte{}) || k.Issued.IsZero() {
		return contentState{}, fmt.Errorf("content key: not one of this farm")
	}
	return contentState{s, [32]byte(k.Key), k.Issued}, nil
}

// loadContentKeyLocked reads the farm's content key. On the owner's node, where
// there is none yet, it makes one.
func (m *Membership) loadContentKeyLocked() error {
	m.content = contentState{}
	var s job.Signed
	err := m.dir.read("content.key", contentKeyMagic, &s)
	if err == nil {
		// It may still be by a root that was replaced since.
		for i := len(m.chain); i >= 0; i-- {
			if m.content, err = m.openContentKey(s, m.rootAt(i)); err == nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.dir.file("content.key"), err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m.rootKey == nil {
		return nil // it comes with the next hello
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	s, err = job.Sign(m.rootKey, job.ContextContentKey, ContentKey{Version: 1, Farm: m.id, Key: key, Issued: time.Now()})
	if err != nil {
		return err
	}
	return m.keepContentKeyLocked(s)
}

// keepContentKeyLocked takes in a content key, on disk first, unless the known
// one is as late.
func (m *Membership) keepContentKeyLocked(s job.Signed) error {
	c, err := m.openContentKey(s, m.root)
	if err != nil {
		return err
	}
	if !c.issued.After(m.content.issued) {
		return nil
	}
	if err := m.dir.write("content.key", contentKeyMagic, s); err != nil {
		return err
	}
	m.content = c
	return nil
}

// learnContentKey takes in what a member showed; the signature decides.
func (m *Membership) learnContentKey(w *wire.Signed) error {
	s, err := w.Value(wire.MaxSignedBytes)
	if err != nil {
		return fmt.Errorf("content key: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" {
		return ErrNoFarm
	}
	return m.keepContentKeyLocked(s)
}

// contentKey is what goes to a proven member, nil where there is none.
func (m *Membership) contentKey() *wire.Signed {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.content.issued.IsZero() {
		return nil
	}
	return wire.FromSigned(m.content.signed)
}
