package recordlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

var testOptions = Options{Magic: "test", Version: 3, MaxRecord: 1 << 12}

func reopen(t *testing.T, dir string, o Options) (*Log, []string) {
	t.Helper()
	var got []string
	l, err := Open(dir, o, func(b []byte) error { got = append(got, string(b)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return l, got
}

func isPrefix(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) > len(want) {
		t.Fatalf("%d records came back of %d written", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("record %d: %q, written was %q", i, got[i], want[i])
		}
	}
}

func write(t *testing.T, dir string, o Options, n int) []string {
	t.Helper()
	l, _ := reopen(t, dir, o)
	var want []string
	for i := range n {
		r := fmt.Sprintf("record %d %s", i, bytes.Repeat([]byte{'x'}, i%7))
		if err := l.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
		want = append(want, r)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

func TestEveryTruncationKeepsAPrefixAndCanGoOn(t *testing.T) {
	src := t.TempDir()
	want := write(t, src, testOptions, 40)
	whole, err := os.ReadFile(filepath.Join(src, "00000001.log"))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "00000001.log"), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, got := reopen(t, dir, testOptions)
		isPrefix(t, got, want)
		if cut == len(whole) && len(got) != len(want) {
			t.Fatalf("%d of %d records of a whole log", len(got), len(want))
		}
		if err := l.Append([]byte("new")); err != nil {
			t.Fatal(err)
		}
		l.Close()
		l, again := reopen(t, dir, testOptions)
		if l.Torn != "" || len(again) != len(got)+1 || again[len(got)] != "new" {
			t.Fatalf("cut at %d: repaired log is not sound: torn %q, %d records after %d", cut, l.Torn, len(again), len(got))
		}
		l.Close()
	}
}

func TestEveryBitFlipGivesNoWrongRecord(t *testing.T) {
	src := t.TempDir()
	want := write(t, src, testOptions, 25)
	whole, err := os.ReadFile(filepath.Join(src, "00000001.log"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "00000001.log")
	for i := range whole {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			os.WriteFile(path, b, 0o600)
			var got []string
			l, err := Open(dir, testOptions, func(r []byte) error { got = append(got, string(r)); return nil })
			isPrefix(t, got, want)
			if err == nil {
				if len(got) == len(want) {
					t.Fatalf("flip of bit %d in byte %d was not noticed", bit, i)
				}
				l.Close()
			}
		}
	}
}

func TestSegmentsRotateAndALostOneEndsTheLog(t *testing.T) {
	o := testOptions
	o.SegmentBytes = 100
	dir := t.TempDir()
	want := write(t, dir, o, 50)
	segs, _ := segments(System{}, dir)
	if len(segs) < 5 {
		t.Fatalf("only %d segments", len(segs))
	}
	l, got := reopen(t, dir, o)
	if len(got) != len(want) {
		t.Fatalf("%d of %d records", len(got), len(want))
	}
	l.Close()
	if err := os.Remove(filepath.Join(dir, "00000003.log")); err != nil {
		t.Fatal(err)
	}
	l, got = reopen(t, dir, o)
	isPrefix(t, got, want)
	if l.Torn == "" || len(got) == 0 {
		t.Fatalf("torn %q after %d records", l.Torn, len(got))
	}
	if err := l.Append([]byte("new")); err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, again := reopen(t, dir, o)
	if len(again) != len(got)+1 {
		t.Fatalf("%d records, then %d", len(got), len(again))
	}
}

func TestZerosAfterTheEndAreNoRecords(t *testing.T) {
	dir := t.TempDir()
	want := write(t, dir, testOptions, 3)
	f, _ := os.OpenFile(filepath.Join(dir, "00000001.log"), os.O_APPEND|os.O_WRONLY, 0)
	f.Write(make([]byte, 4096))
	f.Close()
	_, got := reopen(t, dir, testOptions)
	if len(got) != len(want) {
		t.Fatalf("%d records, %d were written", len(got), len(want))
	}
}

func TestRefusesAnotherLogAndANewerOne(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, testOptions, 3)
	none := func([]byte) error { return nil }
	if _, err := Open(dir, Options{Magic: "else", Version: 9}, none); err == nil {
		t.Error("another log was opened")
	}
	if _, err := Open(dir, Options{Magic: "test", Version: 2}, none); !errors.Is(err, ErrNewer) {
		t.Errorf("newer version: %v", err)
	}
	if l, err := Open(dir, Options{Magic: "test", Version: 4}, none); err != nil || l.Torn != "" {
		t.Errorf("older version: %v", err)
	}
}

func TestConcurrentWritersAreAllKept(t *testing.T) {
	dir := t.TempDir()
	o := testOptions
	o.SegmentBytes = 512
	l, _ := reopen(t, dir, o)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				if err := l.Append([]byte(fmt.Sprint(w, i))); err != nil {
					t.Error(err)
				}
				if err := l.Sync(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l.Close()
	_, got := reopen(t, dir, o)
	seen := map[string]bool{}
	for _, g := range got {
		seen[g] = true
	}
	if len(seen) != 160 {
		t.Fatalf("%d of 160 records", len(seen))
	}
}

func TestAnyRecordsComeBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		o := testOptions
		o.SegmentBytes = int64(rapid.IntRange(1, 400).Draw(rt, "segment"))
		var want [][]byte
		for range rapid.IntRange(1, 4).Draw(rt, "openings") {
			i := 0
			l, err := Open(dir, o, func(b []byte) error {
				if i >= len(want) || !bytes.Equal(b, want[i]) {
					return fmt.Errorf("record %d is not what was written", i)
				}
				i++
				return nil
			})
			if err != nil || i != len(want) {
				rt.Fatalf("%v after %d of %d", err, i, len(want))
			}
			for range rapid.IntRange(0, 5).Draw(rt, "appends") {
				recs := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 50), 0, 4).Draw(rt, "records")
				if err := l.Append(recs...); err != nil {
					rt.Fatal(err)
				}
				want = append(want, recs...)
			}
			if err := l.Close(); err != nil {
				rt.Fatal(err)
			}
		}
	})
}
