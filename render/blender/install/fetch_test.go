package install

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// entry of an archive: a file, a folder (name ends in /) or a link.
type entry struct{ name, text, link string }

const top = "blender-9.9.1-linux-x64"

// tarXZ packs entries with the system's xz: there is no writer in this program.
func tarXZ(t *testing.T, entries ...entry) []byte {
	t.Helper()
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("NOT RUN: no xz on PATH")
	}
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(e.text))}
		switch {
		case e.link != "":
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.link, 0
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		case e.text == "pipe":
			h.Typeflag, h.Size = tar.TypeFifo, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(e.text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "xz", "-c")
	c.Stdin, c.Stdout = &plain, &packed
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func blenderEntries() []entry {
	return []entry{{name: top + "/"}, {name: top + "/blender", text: "#!/bin/sh\nexit 0\n"}, {name: top + "/lib/libx.so.1", text: strings.Repeat("lib", 50_000)}, {name: top + "/lib/libx.so", link: "libx.so.1"}}
}

func release(b []byte) Release {
	sum := sha256.Sum256(b)
	return Release{"9.9.1", "linux-x64", hex.EncodeToString(sum[:])}
}

// mirror serves an archive as download.blender.org does; before may answer a
// request itself.
func mirror(t *testing.T, b []byte, before func(w http.ResponseWriter, r *http.Request) bool) (string, *atomic.Int64) {
	t.Helper()
	var sent atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/release/Blender9.9/blender-9.9.1-") {
			http.NotFound(w, r)
			return
		}
		if before != nil && before(w, r) {
			return
		}
		c := &countedWriter{ResponseWriter: w, n: &sent}
		http.ServeContent(c, r, "", time.Time{}, bytes.NewReader(b))
	}))
	t.Cleanup(s.Close)
	return s.URL + "/release", &sent
}

type countedWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *countedWriter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

func quiet(string, int64, int64) {}

func TestARealArchiveIsInstalledOnce(t *testing.T) {
	b := tarXZ(t, blenderEntries()...)
	at, sent := mirror(t, b, nil)
	dir := t.TempDir()
	phases := map[string]int64{}
	for range 2 {
		path, err := Fetch(t.Context(), release(b), at, dir, func(phase string, done, _ int64) { phases[phase] = done })
		if err != nil || path != filepath.Join(dir, top, "blender") {
			t.Fatal(path, err)
		}
	}
	if sent.Load() != int64(len(b)) || phases["downloading"] != int64(len(b)) || phases["unpacking"] == 0 {
		t.Errorf("%d bytes sent of %d, %v", sent.Load(), len(b), phases)
	}
	if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, top, "blender")).CombinedOutput(); err != nil {
		t.Error(err, string(out))
	}
	lib, err := os.ReadFile(filepath.Join(dir, top, "lib", "libx.so"))
	if err != nil || len(lib) != 150_000 {
		t.Error(len(lib), err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 { // and the lock
		t.Error(left, err)
	}
}

func TestADownloadGoesOnWhereItWasCutOff(t *testing.T) {
	retryAfter = time.Millisecond
	b := tarXZ(t, append(blenderEntries(), entry{name: top + "/noise", text: noise(200_000)})...)
	var cuts atomic.Int64
	at, sent := mirror(t, b, func(w http.ResponseWriter, r *http.Request) bool {
		if n := cuts.Add(1); n == 1 { // the line goes dead after a part
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(b[:70_000])
			return true
		} else if n == 2 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	if _, err := Fetch(t.Context(), release(b), at, t.TempDir(), quiet); err != nil {
		t.Fatal(err)
	}
	if sent.Load() != int64(len(b))-70_000 {
		t.Errorf("%d bytes were sent again", sent.Load()-int64(len(b))+70_000)
	}

	// Ended by a person, and begun again by another process.
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	hold := make(chan struct{})
	slow, _ := mirror(t, b, func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = w.Write(b[:50_000])
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-hold:
		}
		return true
	})
	_, err := Fetch(ctx, release(b), slow, dir, func(_ string, done, _ int64) {
		if done == 50_000 {
			cancel(errors.New("enough"))
		}
	})
	close(hold)
	if err == nil || !strings.Contains(err.Error(), "goes on from there: enough") {
		t.Fatal(err)
	}
	before := sent.Load()
	if _, err := Fetch(t.Context(), release(b), at, dir, quiet); err != nil || sent.Load()-before != int64(len(b))-50_000 {
		t.Errorf("%v, %d bytes", err, sent.Load()-before)
	}
}

// noise does not get smaller.
func noise(n int) string {
	var out []byte
	for sum := sha256.Sum256(nil); len(out) < n; sum = sha256.Sum256(sum[:]) {
		out = append(out, sum[:]...)
	}
	return string(out[:n])
}

func TestWhatIsNotThePinnedArchiveIsNotUsed(t *testing.T) {
	b := tarXZ(t, blenderEntries()...)
	evil := bytes.Clone(b)
	evil[len(evil)/2] ^= 1
	for name, c := range map[string]struct {
		served []byte
		kept   []byte
		says   string
	}{
		"tampered":                      {served: evil, says: "not the archive that was pinned"},
		"truncated":                     {served: b[:len(b)-10], says: "not the archive that was pinned"},
		"tampered, part of it was here": {served: evil, kept: b[:100], says: "not the archive that was pinned"},
		"what was here was another":     {served: b, kept: evil[:len(evil)/2+1]},
		"what was here was longer":      {served: b, kept: append(bytes.Clone(b), 1, 2, 3)},
		"all of it was here":            {served: nil, kept: b},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			at, _ := mirror(t, c.served, nil)
			if c.kept != nil {
				if err := os.WriteFile(filepath.Join(dir, release(b).Archive()), c.kept, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			path, err := Fetch(t.Context(), release(b), at, dir, quiet)
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%s, %v", path, err)
			}
			if _, err := os.Stat(filepath.Join(dir, top)); !errors.Is(err, fs.ErrNotExist) {
				t.Error("it was unpacked")
			}
			if _, err := os.Stat(filepath.Join(dir, release(b).Archive())); !errors.Is(err, fs.ErrNotExist) {
				t.Error("the wrong archive is kept")
			}
		})
	}
	at, _ := mirror(t, b, nil)
	if _, err := Fetch(t.Context(), release(b), at+"/nowhere", t.TempDir(), quiet); err == nil || !strings.Contains(err.Error(), "404") || !strings.Contains(err.Error(), "blender.mirror") {
		t.Error(err)
	}
	if _, err := Fetch(t.Context(), release(b), "file:///tmp", t.TempDir(), quiet); err == nil || !strings.Contains(err.Error(), "https://") {
		t.Error(err)
	}
}

// TestHostileArchives: a hash that somebody was talked into pinning.
func TestHostileArchives(t *testing.T) {
	bomb := strings.Repeat("\x00", 3<<20)
	for name, c := range map[string]struct {
		entries []entry
		says    string
	}{
		"up":                {[]entry{{name: "../evil", text: "x"}}, "leads out"},
		"up from within":    {[]entry{{name: top + "/../../evil", text: "x"}}, "leads out"},
		"absolute":          {[]entry{{name: "/tmp/evil", text: "x"}}, "leads out"},
		"backslash":         {[]entry{{name: top + `\..\evil`, text: "x"}}, "leads out"},
		"elsewhere":         {[]entry{{name: "other/evil", text: "x"}}, "is not in the folder"},
		"link out":          {[]entry{{name: top + "/a", link: "../../evil"}}, "out of its folder"},
		"absolute link":     {[]entry{{name: top + "/a", link: "/etc/passwd"}}, "out of its folder"},
		"through a link":    {[]entry{{name: top + "/d/"}, {name: top + "/a", link: "d"}, {name: top + "/a", text: "over it"}}, "exists"},
		"a link by a link":  {[]entry{{name: top + "/z/"}, {name: top + "/a/b/s", link: "../../z"}, {name: top + "/a/b/l", link: "s/../../evil"}}, "out of its folder"},
		"below a link":      {[]entry{{name: top + "/z/"}, {name: top + "/a", link: "z"}, {name: top + "/a/evil", text: "x"}}, "below a link"},
		"the same twice":    {[]entry{{name: top + "/a", text: "1"}, {name: top + "/a", text: "2"}}, "exists"},
		"a pipe":            {[]entry{{name: top + "/p", text: "pipe"}}, "neither a file"},
		"a bomb":            {[]entry{{name: top + "/blender", text: bomb}}, "more than a Blender has"},
		"too many":          {[]entry{{name: top + "/a/"}, {name: top + "/b/"}, {name: top + "/c/"}, {name: top + "/d/"}, {name: top + "/e/"}}, "too many files"},
		"no Blender at all": {[]entry{{name: top + "/readme", text: "x"}}, "holds no Blender"},
	} {
		t.Run(name, func(t *testing.T) {
			was := unpackBounds
			unpackBounds = bounds{files: 4, bytes: 1 << 20}
			defer func() { unpackBounds = was }()
			b := tarXZ(t, c.entries...)
			at, _ := mirror(t, b, nil)
			outer := t.TempDir()
			dir := filepath.Join(outer, "blenders")
			_, err := Fetch(t.Context(), release(b), at, dir, quiet)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatal(err)
			}
			if found, err := os.ReadDir(outer); err != nil || len(found) != 1 {
				t.Errorf("it wrote outside: %v", found)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "unpacking-*")); err != nil || len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
	b := tarXZ(t, blenderEntries()...)
	at, _ := mirror(t, b[:len(b)/2], nil)
	if _, err := Fetch(t.Context(), release(b[:len(b)/2]), at, t.TempDir(), quiet); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Error(err)
	}
}

func TestArchivesOfWindows(t *testing.T) {
	zipped := func(names ...string) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, n := range names {
			f, err := w.Create(n)
			if err == nil {
				_, err = f.Write([]byte("MZ"))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	get := func(b []byte) (string, error) {
		r := release(b)
		r.System = "windows-x64"
		at, _ := mirror(t, b, nil)
		return Fetch(t.Context(), r, at, t.TempDir(), quiet)
	}
	const win = "blender-9.9.1-windows-x64"
	if path, err := get(zipped(win+"/blender.exe", win+"/9.9/python/bin/python.exe")); err != nil || filepath.Base(path) != "blender.exe" {
		t.Error(path, err)
	}
	for name, b := range map[string][]byte{"leads out": zipped(win+"/blender.exe", "../evil.exe"), "leads out ": zipped(win + `/C:\evil.exe`), "damaged": []byte("PK\x03\x04 nothing")} {
		if _, err := get(b); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Error(err)
		}
	}
}

func TestReleases(t *testing.T) {
	for _, r := range Known {
		if p, err := ParseRelease(r.Version + " " + r.System + " " + r.SHA256); err != nil || p != r {
			t.Error(p, err)
		}
	}
	more, err := ParseRelease("4.5.11 linux-x64 " + strings.Repeat("AB", 32))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Choose("4.5", "linux-x64", []Release{more}); err != nil || r != more {
		t.Error(r, err)
	}
	if r, err := Choose("4.5.4", "linux-x64", []Release{more}); err != nil || r.URL(DefaultMirror+"/") != "https://download.blender.org/release/Blender4.5/blender-4.5.4-linux-x64.tar.xz" {
		t.Error(r, err)
	}
	if r, err := Choose("4.5", "windows-x64", nil); err != nil || r.Archive() != "blender-4.5.4-windows-x64.zip" {
		t.Error(r, err)
	}
	if _, err := Choose("4.1", "linux-x64", nil); err == nil || !strings.Contains(err.Error(), "blender.releases") || !strings.Contains(err.Error(), "5.0.1") {
		t.Error(err)
	}
	if _, err := Choose("4.5", "", nil); err == nil || !strings.Contains(err.Error(), "PATH") {
		t.Error(err)
	}
	for _, bad := range []string{"", "4.5.4 linux-x64", "4.5.4 linux-x64 12", "4.5 linux-x64 " + more.SHA256, "4.5.4 macos-arm64 " + more.SHA256, "../4.5 linux-x64 " + more.SHA256} {
		if _, err := ParseRelease(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	for s, want := range map[string]bool{"4.5": true, "4.5.4": true, "4": false, "4.5.4.1": false, "04.5": false, "blender-4.5": false, "./4.5": false} {
		if IsVersion(s) != want {
			t.Error(s)
		}
	}
}
