package tail_test

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"idlewild/internal/tail"
)

type broken struct{ got int }

func (b *broken) Write(p []byte) (int, error) {
	b.got += len(p)
	return 0, errors.New("full")
}

func TestWriterKeepsTheEnd(t *testing.T) {
	to := &broken{}
	w := &tail.Writer{To: to, Keep: 10}
	var all strings.Builder
	for i := range 100 {
		s := strings.Repeat(string(rune('a'+i%26)), i%7)
		all.WriteString(s)
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
		if want := all.String()[max(0, all.Len()-10):]; string(w.Bytes()) != want {
			t.Fatalf("%q, want %q", w.Bytes(), want)
		}
	}
	if to.got != all.Len() {
		t.Errorf("%d bytes of %d were passed on", to.got, all.Len())
	}
}

// What is not kept takes no memory, however much is printed.
func TestWriterForgets(t *testing.T) {
	w, line := &tail.Writer{Keep: 10}, bytes.Repeat([]byte("x"), 1000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10_000 {
		w.Write(line)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("%d bytes for ten million that were printed", took)
	}
}

func TestWriterKeepsFourKilobytesUnlessTold(t *testing.T) {
	w := &tail.Writer{}
	w.Write(bytes.Repeat([]byte("x"), 5000))
	if n := len(w.Bytes()); n != 4096 {
		t.Errorf("%d bytes are kept", n)
	}
}
