package p2p

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/ondisk"
	"idlewild/job"
)

// farmDir is where a farm lies on disk: DataDir/farm/<farm id>/, with
//
//	farm        what we are a member of, with our certificate
//	root.key    the root's private key, on the owner's node only
//	content.key by which members cut content into chunks, signed by the root
//	members     the certificates and addresses of the members we know
//	revoked     the root's revocations
//	opening     whether strangers may come, signed by the root
//	tickets/    one file per spent ticket, named for its secret
//
// Each file begins with a line that names its format and version; then follows
// CBOR. A file is replaced by write, fsync, rename, fsync of the folder.
type farmDir struct{ path string }

const (
	farmMagic    = "idlewild farm 1\n"
	membersMagic = "idlewild members 1\n"
	revokedMagic = "idlewild revoked 1\n"
	spentMagic   = "idlewild spent ticket 1\n"
	rootMagic    = "idlewild root key 1\n"

	maxFarmFile = 64 << 20
)

// farmFile is the content of "farm".
type farmFile struct {
	Root []byte `cbor:"root"` // peer ID of the root key
	// Chain is how Root came after the farm's first one, which is empty where
	// Root is that.
	Chain       []job.Signed `cbor:"chain,omitempty"`
	Recovered   int64        `cbor:"recovered,omitempty"` // unix milliseconds: tickets from before are not known here
	Name        string       `cbor:"name"`
	Certificate job.Signed   `cbor:"certificate"` // ours
	Revoked     bool         `cbor:"revoked,omitempty"`
	// Stranger is set where Certificate is this node's own, a Pass. Contacts are
	// the members that the opening named, by which it came.
	Stranger bool      `cbor:"stranger,omitempty"`
	Contacts []Contact `cbor:"contacts,omitempty"`
}

// memberFile is one entry of "members".
type memberFile struct {
	Certificate job.Signed `cbor:"certificate"`
	Addrs       [][]byte   `cbor:"addrs"`
	LastSeen    time.Time  `cbor:"last_seen"`
}

// spentFile says who came in with a ticket. The same peer may show the ticket
// again, and gets the same certificate: its first answer may have been lost.
type spentFile struct {
	Peer        string     `cbor:"peer"`
	Certificate job.Signed `cbor:"certificate"`
	At          time.Time  `cbor:"at"`
}

// findFarmDir returns the farm that lies under dataDir, if any.
func findFarmDir(dataDir string) (farmDir, bool, error) {
	entries, err := os.ReadDir(filepath.Join(dataDir, "farm"))
	if errors.Is(err, fs.ErrNotExist) {
		return farmDir{}, false, nil
	}
	if err != nil {
		return farmDir{}, false, err
	}
	for _, e := range entries {
		d := farmDir{filepath.Join(dataDir, "farm", e.Name())}
		if _, err := os.Stat(d.file("farm")); err == nil && e.IsDir() {
			return d, true, nil
		}
	}
	return farmDir{}, false, nil
}

func newFarmDir(dataDir string, id FarmID) (farmDir, error) {
	d := farmDir{filepath.Join(dataDir, "farm", string(id))}
	return d, os.MkdirAll(filepath.Join(d.path, "tickets"), 0o700)
}

func (d farmDir) file(name string) string { return filepath.Join(d.path, name) }

func (d farmDir) write(name, magic string, v any) error {
	b, err := job.Encode(v)
	if err != nil {
		return err
	}
	return ondisk.WriteFile(d.file(name), append([]byte(magic), b...), 0o600)
}

func (d farmDir) read(name, magic string, v any) error {
	b, err := readFile(d.file(name), magic)
	if err != nil {
		return err
	}
	if err := job.Decode(b, maxFarmFile, v); err != nil {
		return fmt.Errorf("%s: %w", d.file(name), err)
	}
	return nil
}

func (d farmDir) writeRoot(name string, key crypto.PrivKey) error {
	b, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return err
	}
	return ondisk.WriteFile(d.file(name), append([]byte(rootMagic), b...), 0o600)
}

// The root key, and the next one while it is being replaced: it takes the
// other's place once "farm" names it.
const (
	rootKeyFile = "root.key"
	nextKeyFile = "root.key.next"
)

// readRoot returns nil where that key is not here.
func (d farmDir) readRoot(name string) (crypto.PrivKey, error) {
	b, err := readFile(d.file(name), rootMagic)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key, err := crypto.UnmarshalPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.file(name), err)
	}
	return key, nil
}

// rootOf returns the key of root if it is here; nil if it is not. It ends a
// replacement that a crash interrupted.
func (d farmDir) rootOf(root peer.ID) (crypto.PrivKey, error) {
	var damaged error // of the one that is not needed, perhaps
	for _, name := range []string{rootKeyFile, nextKeyFile} {
		key, err := d.readRoot(name)
		if err != nil {
			damaged = errors.Join(damaged, err)
		}
		if key == nil || !root.MatchesPrivateKey(key) {
			continue
		}
		if name == nextKeyFile {
			if err := d.takeNext(); err != nil {
				return nil, err
			}
		}
		return key, nil
	}
	return nil, damaged
}

// takeNext makes the next root key the root key.
func (d farmDir) takeNext() error {
	if err := os.Rename(d.file(nextKeyFile), d.file(rootKeyFile)); err != nil {
		return err
	}
	return ondisk.SyncDir(d.path)
}

func spentName(secret []byte) string { return filepath.Join("tickets", hex.EncodeToString(secret)) }

// spent returns who used the ticket with that secret.
func (d farmDir) spent(secret []byte) (spentFile, bool, error) {
	var s spentFile
	err := d.read(spentName(secret), spentMagic, &s)
	if errors.Is(err, fs.ErrNotExist) {
		return spentFile{}, false, nil
	}
	return s, err == nil, err
}

// spend records a use. Once it returns, the ticket stays spent whatever
// happens to this machine.
func (d farmDir) spend(secret []byte, s spentFile) error {
	return d.write(spentName(secret), spentMagic, s)
}

func readFile(path, magic string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFarmFile {
		return nil, fmt.Errorf("%s: %d bytes, at most %d", path, st.Size(), maxFarmFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok {
		return nil, fmt.Errorf("%s: not a file of this version of idlewild", path)
	}
	return rest, nil
}
