package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
	"idlewild/diffupload/store/storetest"
)

// TestMain is also the daemon that gets killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("IDLEWILD_TEST_STORE"); dir != "" {
		from, _ := strconv.Atoi(os.Getenv("IDLEWILD_TEST_FROM"))
		err := putForEver(dir, from)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// putForEver tells of each block that was put, in groups of three, and pins
// every tenth group.
func putForEver(dir string, from int) error {
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for i := from; ; i += 3 {
		var group []diffupload.Block
		var ids []cid.Cid
		for j := range 3 {
			b := storetest.Block(i+j, 500+i%20_000)
			group, ids = append(group, b), append(ids, b.ID)
		}
		if err := s.PutMany(context.Background(), group); err != nil {
			return err
		}
		if i%30 == 0 {
			if err := s.Pin(context.Background(), "job", ids); err != nil {
				return err
			}
		}
		fmt.Fprintln(out, i)
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

func TestWhatWasAcknowledgedSurvivesKill9(t *testing.T) {
	dir := t.TempDir()
	var acked []int
	for round := range 5 {
		c := exec.Command(os.Args[0])
		from := 1_000_000 * (round + 1)
		c.Env = append(os.Environ(), "IDLEWILD_TEST_STORE="+dir, "IDLEWILD_TEST_FROM="+strconv.Itoa(from))
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 20 + rand.IntN(200); n > 0 && lines.Scan(); n-- {
			i, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			acked = append(acked, i)
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		c.Wait()
	}
	s := open(t, dir, store.Options{})
	for _, i := range acked {
		for j := range 3 {
			b := storetest.Block(i+j, 500+i%20_000)
			if got, err := s.Get(t.Context(), b.ID); err != nil || string(got) != string(b.Data) {
				t.Fatalf("block %d, which was acknowledged: %v", i+j, err)
			}
		}
	}
	if read, dropped, err := s.Verify(t.Context()); dropped != 0 || read < 3*len(acked) || err != nil {
		t.Errorf("%d blocks read, %d damaged: %v", read, dropped, err)
	}
	for _, i := range acked {
		if b := storetest.Block(i, 500+i%20_000); i%30 == 0 {
			if ok, err := s.Pinned(t.Context(), "job", b.ID); !ok || err != nil {
				t.Fatalf("the pin of block %d: %t, %v", i, ok, err)
			}
		}
	}
}

// mounted is a small disk of its own.
func mounted(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if runtime.GOOS != "linux" {
		t.Skip("NOT RUN: a disk of its own is made on Linux alone")
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: a disk cannot be mounted here: %s", strings.TrimSpace(string(out)))
	}
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	return dir
}

func TestOnADiskThatFills(t *testing.T) {
	dir := mounted(t, "size=4m")
	s := open(t, dir, store.Options{Grace: -1})
	var kept []diffupload.Block
	var err error
	for i := range 1000 {
		b := storetest.Block(i, 100_000)
		if err = s.Put(t.Context(), b.ID, b.Data); err != nil {
			break
		}
		kept = append(kept, b)
	}
	if !errors.Is(err, diffupload.ErrFull) || len(kept) < 10 {
		t.Fatalf("after %d blocks: %v", len(kept), err)
	}
	check := func() {
		t.Helper()
		for i, b := range kept {
			if _, err := s.Get(t.Context(), b.ID); err != nil {
				t.Fatalf("block %d on the full disk: %v", i, err)
			}
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Logf("close on the full disk: %v", err)
	}
	s = open(t, dir, store.Options{Grace: -1})
	check()
	// Room can be made, and then there is room.
	if freed, err := s.GC(t.Context(), 0); err != nil || freed == 0 {
		t.Fatalf("gc on the full disk freed %d: %v", freed, err)
	}
	b := storetest.Block(2000, 100_000)
	if err := s.Put(t.Context(), b.ID, b.Data); err != nil {
		t.Errorf("put after gc: %v", err)
	}
}

func TestOnADiskThatCannotBeWritten(t *testing.T) {
	dir := mounted(t, "size=16m")
	at := filepath.Join(dir, "store")
	s := open(t, at, store.Options{})
	a := storetest.Block(1, 10_000)
	put(t, s, a)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: a disk cannot be made read-only here: %s", out)
	}
	if _, err := store.Open(at, store.Options{}); err == nil || !strings.Contains(err.Error(), at) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("open on a read-only disk: %v", err)
	}
	if out, err := exec.Command("mount", "-o", "remount,rw", dir).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	s = open(t, at, store.Options{})
	if _, err := s.Get(t.Context(), a.ID); err != nil {
		t.Error(err)
	}
}
