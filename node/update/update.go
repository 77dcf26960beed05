// Package update replaces this program by a newer one that its makers signed.
//
// A manifest names the newest version and, for each system, a file with its
// SHA-256; a minisign signature (ed25519) of the manifest stands beside it. The
// new program is fetched beside the old one, started on trial, and takes its
// place only once it has answered: until then nothing has changed.
package update

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"aead.dev/minisign"
	"golang.org/x/mod/semver"
)

// Bounds of what is read from the address.
const (
	maxManifest  = 1 << 20
	maxSignature = 16 << 10
	maxProgram   = 1 << 30
	maxFiles     = 64
)

// Manifest is what the makers sign.
type Manifest struct {
	Version string          `json:"version"` // 1.2.3, without a v
	Files   map[string]File `json:"files"`   // by system: "linux/amd64"
}

// File is the program for one system.
type File struct {
	URL    string `json:"url"` // relative to the manifest's, or absolute
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size_bytes"`
}

// Source is where updates come from.
type Source struct {
	URL    string // of the manifest; its signature has .minisig behind it
	Key    string // minisign public key, as text
	Client *http.Client
}

var versionText = regexp.MustCompile(`^\d{1,6}\.\d{1,6}\.\d{1,6}(-[0-9A-Za-z.-]{1,64})?$`)

// Newer reports whether version a is newer than b. What is no version is
// neither newer nor older.
func Newer(a, b string) bool {
	return versionText.MatchString(a) && versionText.MatchString(b) && semver.Compare("v"+a, "v"+b) > 0
}

// Validate says which part of a source is wrong, and why.
func (s Source) Validate() (part string, err error) {
	if u, err := url.Parse(s.URL); err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return "url", errors.New("it is no https address")
	}
	if _, err := s.key(); err != nil {
		return "key", err
	}
	return "", nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func (s Source) key() (k minisign.PublicKey, err error) {
	if err := k.UnmarshalText([]byte(strings.TrimSpace(s.Key))); err != nil {
		return k, errors.New("it is no minisign public key: the one line of base64 from a .pub file")
	}
	return k, nil
}

func (s Source) client() *http.Client {
	if s.Client != nil {
		return s.Client
	}
	return &http.Client{Timeout: 30 * time.Minute}
}

// get reads an address, max bytes at most.
func (s Source) get(ctx context.Context, address string, max int64, to io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "idlewild")
	resp, err := s.client().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, resp.Status)
	}
	n, err := io.Copy(to, io.LimitReader(resp.Body, max+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", address, err)
	case n > max:
		return fmt.Errorf("%s is over %d bytes", address, max)
	case resp.ContentLength >= 0 && n != resp.ContentLength:
		return fmt.Errorf("%s did not arrive whole", address)
	}
	return nil
}

// Manifest gets the manifest, and refuses one that is not signed.
func (s Source) Manifest(ctx context.Context) (Manifest, error) {
	key, err := s.key()
	if err != nil {
		return Manifest{}, err
	}
	var text, signature bytes.Buffer
	if err := s.get(ctx, s.URL, maxManifest, &text); err != nil {
		return Manifest{}, err
	}
	if err := s.get(ctx, s.URL+".minisig", maxSignature, &signature); err != nil {
		return Manifest{}, err
	}
	if !minisign.Verify(key, text.Bytes(), signature.Bytes()) {
		return Manifest{}, fmt.Errorf("%s is not signed with the key of update.key: it is not used", s.URL)
	}
	var m Manifest
	d := json.NewDecoder(&text)
	if err := d.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", s.URL, err)
	}
	if !versionText.MatchString(m.Version) || len(m.Files) > maxFiles {
		return Manifest{}, fmt.Errorf("%s: version %.40q is none, or there are more than %d files", s.URL, m.Version, maxFiles)
	}
	return m, nil
}

// Platform names the system that this program runs on.
func Platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// newPath is where the new program lies until it has answered.
func newPath(exe string) string {
	if ext := filepath.Ext(exe); strings.EqualFold(ext, ".exe") {
		return strings.TrimSuffix(exe, ext) + ".new" + ext
	}
	return exe + ".new"
}

// Fetch gets the program of a manifest and puts it beside exe, checked and to
// be run. An older or equal version is refused.
func (s Source) Fetch(ctx context.Context, m Manifest, exe, current string) (Staged, error) {
	if !Newer(m.Version, current) {
		return Staged{}, fmt.Errorf("version %s is not newer than %s, which runs", m.Version, current)
	}
	f, ok := m.Files[Platform()]
	if !ok {
		return Staged{}, fmt.Errorf("version %s is not made for %s", m.Version, Platform())
	}
	sum, err := hex.DecodeString(f.SHA256)
	if err != nil || len(sum) != sha256.Size || f.Size <= 0 || f.Size > maxProgram {
		return Staged{}, fmt.Errorf("version %s: the manifest has no right size or SHA-256 for %s", m.Version, Platform())
	}
	base, err := url.Parse(s.URL)
	if err != nil {
		return Staged{}, err
	}
	at, err := base.Parse(f.URL)
	if err != nil {
		return Staged{}, fmt.Errorf("version %s: address %.100q: %w", m.Version, f.URL, err)
	}
	mode := os.FileMode(0o755)
	if fi, err := os.Stat(exe); err == nil {
		mode = fi.Mode().Perm()
	}
	tmp, err := os.CreateTemp(filepath.Dir(exe), ".idlewild-update-*")
	if err != nil {
		return Staged{}, fmt.Errorf("the folder of this program cannot be written (%w): if a package installed it, update with the package manager", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	h := sha256.New()
	if err := s.get(ctx, at.String(), f.Size, io.MultiWriter(tmp, h)); err != nil {
		return Staged{}, err
	}
	if !bytes.Equal(h.Sum(nil), sum) {
		return Staged{}, fmt.Errorf("%s is not what the manifest says (SHA-256): it is not used", at)
	}
	if err := errors.Join(tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return Staged{}, err
	}
	g := Staged{Version: m.Version, Path: newPath(exe), SHA256: f.SHA256}
	if err := os.Rename(tmp.Name(), g.Path); err != nil {
		return Staged{}, err
	}
	return g, nil
}
