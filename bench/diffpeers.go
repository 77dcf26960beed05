package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// peer is another program that sends or stores the difference of two files.
type peer struct {
	name string
	// bytes is what must move to who has old, in a fresh folder that bytes may
	// fill.
	bytes func(ctx context.Context, dir, old, fresh string) (int64, error)
}

// peerSettings keep peers from asking questions.
var peerSettings = []string{
	"RESTIC_PASSWORD=bench",
	"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes",
	"BORG_RELOCATED_REPO_ACCESS_IS_OK=yes",
}

// Names of peers that are told apart from the rest.
const (
	peerPatch = "zstd --patch-from"
	peerWhole = "zstd -19, whole"
)

// findPeers lists the peers of this machine. All must be there; desync, which
// no distribution packages, is used where it is.
func findPeers() ([]peer, error) {
	var missing []string
	for _, program := range []string{"rsync", "casync", "restic", "borg", "xdelta3", "zstd"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, strings.Replace(program, "borg", "borgbackup", 1))
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("peers are missing: apt-get install %s", strings.Join(missing, " "))
	}
	peers := []peer{
		{"rsync -z", rsyncBytes},
		{"casync", chunkStoreBytes("casync", "make", "--store=store")},
	}
	if _, err := exec.LookPath("desync"); err == nil {
		peers = append(peers, peer{"desync", chunkStoreBytes("desync", "make", "-s", "store")})
	} else {
		fmt.Fprintln(os.Stderr, "desync is not on this machine and is left out")
	}
	return append(peers,
		peer{"restic", resticBytes},
		peer{"borg", borgBytes},
		peer{"xdelta3 -9", xdeltaBytes},
		peer{peerPatch, patchBytes},
		peer{peerWhole, wholeBytes},
	), nil
}

var rsyncTotal = regexp.MustCompile(`(?m)^Total bytes (?:sent|received): ([0-9,]+)`)

// rsyncBytes is what rsync's two processes say to each other, both ways, when
// the receiver has the old file under the name of the new one.
func rsyncBytes(ctx context.Context, dir, old, fresh string) (int64, error) {
	at := filepath.Join(dir, "file")
	if err := copyFile(at, old); err != nil {
		return 0, err
	}
	b, err := command(ctx, dir, "rsync", "-z", "--ignore-times", "--no-whole-file", "--stats", fresh, at)
	if err != nil {
		return 0, err
	}
	m := rsyncTotal.FindAllSubmatch(b, -1)
	if len(m) != 2 {
		return 0, fmt.Errorf("rsync --stats printed %q", b)
	}
	var total int64
	for _, v := range m {
		n, err := strconv.ParseInt(strings.ReplaceAll(string(v[1]), ",", ""), 10, 64)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// chunkStoreBytes is for tools with a store of compressed chunks: the chunks
// that the new file adds, and its index.
func chunkStoreBytes(tool ...string) func(ctx context.Context, dir, old, fresh string) (int64, error) {
	return func(ctx context.Context, dir, old, fresh string) (int64, error) {
		store := filepath.Join(dir, "store")
		if err := os.Mkdir(store, 0o700); err != nil {
			return 0, err
		}
		if _, err := command(ctx, dir, append(tool, "old.caibx", old)...); err != nil {
			return 0, err
		}
		before, err := folderBytes(store)
		if err != nil {
			return 0, err
		}
		if _, err := command(ctx, dir, append(tool, "new.caibx", fresh)...); err != nil {
			return 0, err
		}
		after, err := folderBytes(store)
		if err != nil {
			return 0, err
		}
		index, err := os.Stat(filepath.Join(dir, "new.caibx"))
		if err != nil {
			return 0, err
		}
		return after - before + index.Size(), nil
	}
}

// resticBytes is how much the repository grows by the second snapshot of one
// file, with restic's strongest compression.
func resticBytes(ctx context.Context, dir, old, fresh string) (int64, error) {
	repo, file := filepath.Join(dir, "repo"), filepath.Join(dir, "file")
	restic := func(args ...string) error {
		_, err := command(ctx, dir, append([]string{"restic", "-r", repo, "--no-cache", "--compression", "max"}, args...)...)
		return err
	}
	if err := restic("init", "--repository-version", "2"); err != nil {
		return 0, err
	}
	if err := copyFile(file, old); err != nil {
		return 0, err
	}
	if err := restic("backup", file); err != nil {
		return 0, err
	}
	before, err := folderBytes(repo)
	if err != nil {
		return 0, err
	}
	if err := copyFile(file, fresh); err != nil {
		return 0, err
	}
	if err := restic("backup", "--force", file); err != nil {
		return 0, err
	}
	after, err := folderBytes(repo)
	return after - before, err
}

// borgBytes is what borg says that the second archive of one file adds,
// compressed.
func borgBytes(ctx context.Context, dir, old, fresh string) (int64, error) {
	repo, file := filepath.Join(dir, "repo"), filepath.Join(dir, "file")
	if _, err := command(ctx, dir, "borg", "init", "-e", "none", repo); err != nil {
		return 0, err
	}
	var out []byte
	for i, from := range []string{old, fresh} {
		if err := copyFile(file, from); err != nil {
			return 0, err
		}
		var err error
		if out, err = command(ctx, dir, "borg", "create", "--json", "--compression", "zstd,19", fmt.Sprintf("%s::%d", repo, i), file); err != nil {
			return 0, err
		}
	}
	var said struct {
		Archive struct {
			Stats struct {
				Deduplicated int64 `json:"deduplicated_size"`
			} `json:"stats"`
		} `json:"archive"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return 0, fmt.Errorf("borg create printed %q: %w", out, err)
	}
	if said.Archive.Stats.Deduplicated <= 0 {
		return 0, fmt.Errorf("borg create printed %q", out)
	}
	return said.Archive.Stats.Deduplicated, nil
}

// xdeltaBytes is the size of the patch, with the whole old file in the window.
func xdeltaBytes(ctx context.Context, dir, old, fresh string) (int64, error) {
	fi, err := os.Stat(old)
	if err != nil {
		return 0, err
	}
	window := max(64<<20, fi.Size()+1)
	if _, err := command(ctx, dir, "xdelta3", "-e", "-9", "-B", fmt.Sprint(window), "-s", old, fresh, "patch"); err != nil {
		return 0, err
	}
	return fileSize(filepath.Join(dir, "patch"))
}

func patchBytes(ctx context.Context, dir, old, fresh string) (int64, error) {
	if _, err := command(ctx, dir, "zstd", "-q", "-19", "--long=31", "--patch-from="+old, fresh, "-o", "patch"); err != nil {
		return 0, err
	}
	return fileSize(filepath.Join(dir, "patch"))
}

// wholeBytes is no difference but the new file, compressed: for reference.
func wholeBytes(ctx context.Context, dir, _, fresh string) (int64, error) {
	if _, err := command(ctx, dir, "zstd", "-q", "-19", "--long=27", fresh, "-o", "whole"); err != nil {
		return 0, err
	}
	return fileSize(filepath.Join(dir, "whole"))
}

func fileSize(path string) (int64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// folderBytes is the size of all files below a folder.
func folderBytes(dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			n += fi.Size()
		}
		return err
	})
	return n, err
}

// copyFile replaces to.
func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}
