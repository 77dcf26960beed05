package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"idlewild/internal/ondisk"
	"idlewild/node/dispatch"
	"idlewild/node/localapi"
)

const (
	auditDir = "audit" // below the data folder
	// auditBytes bounds one file of the log and auditFiles their number: the
	// oldest file goes when a new one is begun. At some 400 bytes an entry that
	// is two hundred thousand rights to read.
	auditBytes = 8 << 20
	auditFiles = 10

	maxAuditLine = 4096
)

// audit is the log of who was given which job's content: JSON objects, one a
// line, in audit.jsonl, and in audit.1.jsonl and so on what is older. Lines are
// only ever added, and each is on disk before the right that it tells of
// leaves this machine.
type audit struct {
	dir   string
	bytes int64 // of one file, at most
	files int
	// about says what a person calls a peer, and in which farm it is now.
	about func(dispatch.Given) (name, farm string)

	mu   sync.Mutex
	f    *os.File // nil after trouble: opened anew with the next entry
	size int64
}

var (
	_ dispatch.Audit = (*audit)(nil)
	_ localapi.Audit = (*audit)(nil)
)

func openAudit(dataDir string, about func(dispatch.Given) (name, farm string), log *slog.Logger) (*audit, error) {
	a := &audit{dir: filepath.Join(dataDir, auditDir), bytes: auditBytes, files: auditFiles, about: about}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.openLocked(); err != nil {
		// A full disk is no reason to stop: nothing is given until it is written.
		log.Error("the audit log cannot be opened", "error", err)
	}
	return a, nil
}

// path of the n-th file, 0 being the one that is written.
func (a *audit) path(n int) string {
	if n == 0 {
		return filepath.Join(a.dir, "audit.jsonl")
	}
	return filepath.Join(a.dir, fmt.Sprintf("audit.%d.jsonl", n))
}

// openLocked opens the newest file for writing. A line that a power cut left
// half-written is taken off: what it told of never left.
func (a *audit) openLocked() error {
	f, err := os.OpenFile(a.path(0), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	size, err := wholeLines(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err == nil {
		err = ondisk.SyncDir(a.dir)
	}
	if err != nil {
		f.Close()
		return err
	}
	a.f, a.size = f, size
	return nil
}

// wholeLines is how much of f is complete lines.
func wholeLines(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	b := make([]byte, maxAuditLine)
	for end := st.Size(); end > 0; { // a power cut may leave much that is no line
		from := max(0, end-maxAuditLine)
		n, err := f.ReadAt(b[:end-from], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(b[:n], '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// Given implements dispatch.Audit.
func (a *audit) Given(g dispatch.Given) error {
	e := localapi.AuditEntry{At: g.At.UTC(), Peer: g.Peer.String(), Job: g.Job, Roots: []string{}, Expires: g.Expires.UTC()}
	e.Name, e.Farm = a.about(g)
	if g.Root.Defined() {
		e.Roots = append(e.Roots, g.Root.String())
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	line = append(line, '\n')
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f == nil {
		if err := a.openLocked(); err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
	}
	if a.size > 0 && a.size+int64(len(line)) > a.bytes {
		if err := a.rotateLocked(); err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
	}
	_, err = a.f.Write(line)
	if err == nil {
		err = a.f.Sync()
	}
	if err != nil {
		a.closeLocked() // opening it again takes off what was half-written
		return fmt.Errorf("audit log: %w", err)
	}
	a.size += int64(len(line))
	return nil
}

// rotateLocked begins a new file. What is interrupted leaves a gap in the
// numbers, which nothing minds.
func (a *audit) rotateLocked() error {
	a.closeLocked()
	for n := a.files - 1; n > 0; n-- {
		if err := os.Rename(a.path(n-1), a.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return a.openLocked()
}

func (a *audit) closeLocked() {
	if a.f != nil {
		a.f.Close() // every line was synced
		a.f = nil
	}
}

// Close ends the log.
func (a *audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closeLocked()
	return nil
}

// Audit implements localapi.Audit. The log is read beside what is written to
// it; only a rotation waits.
func (a *audit) Audit(q localapi.AuditQuery) (localapi.AuditView, error) {
	a.mu.Lock()
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	for n := a.files - 1; n >= 0; n-- {
		f, err := os.Open(a.path(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			a.mu.Unlock()
			return localapi.AuditView{}, fmt.Errorf("audit log: %w", err)
		}
		open = append(open, f)
	}
	a.mu.Unlock()
	v := localapi.AuditView{Folder: a.dir, Entries: []localapi.AuditEntry{}}
	for _, f := range open {
		if err := readAudit(f, q, &v); err != nil {
			return v, fmt.Errorf("audit log: %s: %w", f.Name(), err)
		}
	}
	return v, nil
}

// readAudit adds the entries of one file that q asks for. A line that cannot be
// read is counted and passed over.
func readAudit(f io.Reader, q localapi.AuditQuery, v *localapi.AuditView) error {
	lines := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := lines.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err != nil && len(line) == 0 {
			break
		}
		var e localapi.AuditEntry
		if long || json.Unmarshal(line, &e) != nil {
			v.Damaged++
			continue
		}
		if q.Job != "" && e.Job != q.Job || q.Peer != "" && e.Peer != q.Peer && e.Name != q.Peer || e.At.Before(q.Since) {
			continue
		}
		v.Found++
		v.Entries = append(v.Entries, e)
		if q.Limit > 0 && len(v.Entries) >= 2*q.Limit {
			v.Entries = append(v.Entries[:0], v.Entries[len(v.Entries)-q.Limit:]...)
		}
	}
	if q.Limit > 0 && len(v.Entries) > q.Limit {
		v.Entries = v.Entries[len(v.Entries)-q.Limit:]
	}
	return nil
}

// about says how a peer is called now, and which farm it was given content in.
func (n *Node) about(g dispatch.Given) (name, farm string) {
	for _, m := range n.host.Membership().Members() {
		if m.Peer == g.Peer {
			name = m.Name
		}
	}
	if n.host.Membership().Stranger(g.Peer) {
		name = n.called(g.Peer)
	}
	return name, string(n.host.Membership().FarmID())
}
