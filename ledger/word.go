package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Word is what a member says to the others about a third: that it caught it, or
// that it takes that back. It goes from its author to each member; nobody passes
// on what another said. Good words do not travel: they are what those who
// collude would sell.
type Word struct {
	Version int       `cbor:"v"` // 1
	Farm    string    `cbor:"farm"`
	Author  string    `cbor:"author"`
	Worker  string    `cbor:"worker"`
	Pardon  bool      `cbor:"pardon,omitempty"`
	Job     job.ID    `cbor:"job,omitempty"`
	Root    []byte    `cbor:"root,omitempty"` // job.Leaf.Root of what was judged
	Reason  string    `cbor:"reason"`
	At      time.Time `cbor:"at"`
}

// heard is a word with its author.
type heard struct {
	Word
	author peer.ID
}

// Bounds of words.
const (
	MaxWordBytes  = 4 << 10 // signed, encoded
	MaxWords      = 256     // said to one member at a time
	maxWordReason = 1 << 10
	maxAuthors    = 256              // heard about one peer
	maxHeard      = 4096             // peers that words are kept about
	skew          = 10 * time.Minute // clocks of members may differ by that
	maxWordAge    = 400 * 24 * time.Hour
)

// Why a word is not believed.
var (
	ErrForged = errors.New("not its author's word")
	ErrStale  = errors.New("said before")
	ErrOfSelf = errors.New("about this machine, or by it")
)

// openWord checks everything about a word that does not depend on others.
func openWord(s job.Signed, author peer.ID) (heard, error) {
	w := heard{author: author}
	if err := s.Open(author, job.ContextWord, MaxWordBytes, &w.Word); err != nil {
		return heard{}, fmt.Errorf("%w: %w", ErrForged, err)
	}
	_, err := peer.Decode(w.Worker)
	switch {
	case w.Version != 1:
		return heard{}, fmt.Errorf("word of version %d, this program knows 1", w.Version)
	case w.Author != author.String():
		return heard{}, fmt.Errorf("%w: it names another", ErrForged)
	case err != nil || w.Worker == w.Author:
		return heard{}, fmt.Errorf("%w: about nobody else", ErrForged)
	case !w.Pardon && len(w.Root) != 32, len(w.Reason) > maxWordReason, len(w.Farm) > 128, len(w.Job) > 64:
		return heard{}, fmt.Errorf("word over its bounds")
	}
	return w, nil
}

// Import takes in what author said, which it must have sent itself, and returns
// whom that is about. now guards against words of another time.
func (b *Book) Import(author peer.ID, s job.Signed, now time.Time) (about peer.ID, err error) {
	w, err := openWord(s, author)
	if err != nil {
		return "", err
	}
	about = w.key().peer
	return about, b.take(w, s, now)
}

func (b *Book) take(w heard, s job.Signed, now time.Time) error {
	author := w.author
	switch {
	case w.Farm != b.farm():
		return fmt.Errorf("word of another farm")
	case w.At.After(now.Add(skew)) || now.Sub(w.At) > maxWordAge:
		return fmt.Errorf("word of %s: %w", w.At.Format(time.DateOnly), ErrStale)
	case author == b.self || w.Worker == b.self.String():
		return ErrOfSelf
	}
	rec, err := encode(recWord, told{Author: author.String(), Said: s})
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	b.mu.Lock()
	if err := b.mayHear(w); err != nil {
		b.mu.Unlock()
		return err
	}
	if err = b.log.Append(rec); err == nil {
		b.hear(w)
	}
	b.mu.Unlock()
	if err == nil {
		err = b.log.Sync()
	}
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// told is a word as the log keeps it.
type told struct {
	Author string     `cbor:"author"`
	Said   job.Signed `cbor:"said"`
}

// mayHear refuses what is no news: one author has one word about a peer, the
// newest. mu is held.
func (b *Book) mayHear(w heard) error {
	a := b.peers[w.key()]
	if a == nil {
		if b.heardOf >= maxHeard {
			return fmt.Errorf("words about %d peers are kept already", b.heardOf)
		}
		return nil
	}
	authors := 0
	for _, o := range a.words {
		switch {
		case o.author != w.author:
			authors++
		case !o.At.Before(w.At):
			return ErrStale
		}
	}
	if authors >= maxAuthors {
		return fmt.Errorf("words of %d members about one peer are kept already", authors)
	}
	if at, ok := a.pardoned(w.author); ok && !at.Before(w.At) {
		return ErrStale
	}
	return nil
}

func (w heard) key() key {
	p, _ := peer.Decode(w.Worker) // openWord checked it
	return key{w.Farm, p}
}

// hear puts a word in the place of the author's last one. mu is held.
func (b *Book) hear(w heard) {
	a := b.account(w.key())
	if len(a.words) == 0 && a.pardons == nil {
		b.heardOf++
	}
	a.words = slices.DeleteFunc(a.words, func(o heard) bool { return o.author == w.author })
	if w.Pardon {
		if a.pardons == nil {
			a.pardons = map[peer.ID]time.Time{}
		}
		if len(a.pardons) < maxAuthors {
			a.pardons[w.author] = w.At
		}
		return
	}
	a.words = append(a.words, w)
}

// pardoned is when an author took back what it had said.
func (a *Account) pardoned(author peer.ID) (time.Time, bool) {
	at, ok := a.pardons[author]
	return at, ok
}

// word makes the word that follows from an entry or a pardon here. mu is held.
func (b *Book) word(k key, w Word) {
	w.Version, w.Farm, w.Author, w.Worker = 1, k.farm, b.self.String(), k.peer.String()
	w.Reason = cutText(w.Reason, maxWordReason)
	if b.key == nil || k.farm == "" {
		return
	}
	b.say[k] = w
}

// Words are what this machine says to the members of its farm, newest first, at
// most MaxWords.
func (b *Book) Words(now time.Time) []job.Signed {
	farm := b.farm()
	b.mu.Lock()
	var ws []Word
	for k, w := range b.say {
		if k.farm == farm && now.Sub(w.At) < maxWordAge {
			ws = append(ws, w)
		}
	}
	b.mu.Unlock()
	slices.SortFunc(ws, func(x, y Word) int {
		if c := y.At.Compare(x.At); c != 0 {
			return c
		}
		return strings.Compare(x.Worker, y.Worker)
	})
	var out []job.Signed
	for _, w := range ws[:min(len(ws), MaxWords)] {
		s, err := job.Sign(b.key, job.ContextWord, w)
		if err == nil && len(s.Body) <= MaxWordBytes {
			out = append(out, s)
		}
	}
	return out
}

// Heard returns what members said about a peer, newest last.
func (b *Book) Heard(worker peer.ID) []Word {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.peers[key{b.farm(), worker}]
	if a == nil {
		return nil
	}
	var out []Word
	for _, w := range a.words {
		out = append(out, w.Word)
	}
	return out
}

// cutText shortens s to at most n bytes of whole characters.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	b := []byte(s[:n])
	for len(b) > 0 && !utf8.Valid(b) {
		b = b[:len(b)-1]
	}
	return string(bytes.TrimSpace(b))
}
