package blender

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// moody is a Blender whose EEVEE renders once the file mended is there. It counts
// how often that was tried.
func moody(t *testing.T) (program, mended string, tries func() int) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("NOT RUN: its program is a shell script")
	}
	dir := t.TempDir()
	program, mended, count := filepath.Join(dir, "blender"), filepath.Join(dir, "mended"), filepath.Join(dir, "count")
	script := fmt.Sprintf(`#!/bin/sh
while [ "$1" != "--" ]; do shift; done
rendered='"'$3'"'
if [ "$3" = BLENDER_EEVEE ]; then
	echo x >> %[2]s
	if [ ! -e %[1]s ]; then echo "no driver for you" >&2; exit 11; fi
fi
echo '{"version":"4.9.1","build":"4.9.1 abc test","engines":["CYCLES","BLENDER_EEVEE","BLENDER_WORKBENCH"],"rendered":['$rendered'],"denoisers":[],"folders":[],"module":""}' > "$2"
: > "$2.blend"
`, mended, count)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, mended, func() int {
		b, _ := os.ReadFile(count)
		return strings.Count(string(b), "x")
	}
}

func TestAnEngineThatFailedIsTriedAgain(t *testing.T) {
	program, mended, tries := moody(t)
	scratch := t.TempDir()
	start := func() *Kind {
		t.Helper()
		k, err := New(Options{Blender: program, Scratch: scratch})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	renders := func(k *Kind) bool {
		t.Helper()
		facts, _, err := k.Probe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(facts[FactEngine], "4.9.1 abc test BLENDER_EEVEE")
	}
	k := start()
	if renders(k) || tries() != 1 {
		t.Fatalf("it renders, or was tried %d times", tries())
	}
	if n := k.NotRendered(); len(n) != 1 || !strings.Contains(n[0], "BLENDER_EEVEE") || !strings.Contains(n[0], "no driver for you") {
		t.Errorf("what is said of it: %q", n)
	}
	at := time.Now()
	for i, step := range []struct {
		after time.Duration // since the last step
		tried bool
	}{
		{time.Minute, false}, {8 * time.Minute, false}, {2 * time.Minute, true}, // after ten minutes
		{11 * time.Minute, false}, {10 * time.Minute, true}, // then after twenty
		{39 * time.Minute, false}, {2 * time.Minute, true},
	} {
		before := tries()
		at = at.Add(step.after)
		if k.Retry(t.Context(), at) {
			t.Fatal("it renders")
		}
		if got := tries() > before; got != step.tried {
			t.Errorf("step %d, %s later: tried is %t", i, step.after, got)
		}
	}
	// A process that was started anew has it tried sooner, once, and not in place of
	// what is remembered.
	before := tries()
	k = start()
	if renders(k) || tries() != before {
		t.Errorf("asked at the start, %d times", tries()-before)
	}
	k.Retry(t.Context(), at.Add(time.Minute))
	if tries() != before {
		t.Error("tried a minute after the last time, because of a start")
	}
	k = start()
	renders(k)
	k.Retry(t.Context(), at.Add(11*time.Minute))
	if tries() != before+1 {
		t.Errorf("tried %d times after a start", tries()-before)
	}
	k.Retry(t.Context(), at.Add(22*time.Minute))
	if tries() != before+1 {
		t.Error("tried again, long before it is time")
	}
	if err := os.WriteFile(mended, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !k.Retry(t.Context(), at.Add(48*time.Hour)) || !renders(k) || len(k.NotRendered()) != 0 {
		t.Error("it does not render although it was mended")
	}
	if before := tries(); !renders(start()) || tries() != before {
		t.Error("that it renders is not remembered")
	}
}

func TestAnotherDriverIsAskedAnew(t *testing.T) {
	program, mended, tries := moody(t)
	scratch := t.TempDir()
	for i, driver := range []string{"one", "one", "two"} {
		k, err := New(Options{Blender: program, Scratch: scratch})
		if err != nil {
			t.Fatal(err)
		}
		k.drivers = driver
		if _, _, err := k.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []int{1, 1, 2}[i]; tries() != want {
			t.Errorf("with driver %s: tried %d times, want %d", driver, tries(), want)
		}
		if i == 1 {
			if err := os.WriteFile(mended, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(k.NotRendered()); n != []int{1, 1, 0}[i] {
			t.Errorf("with driver %s: %d engines do not render", driver, n)
		}
	}
}

func TestWaitsOfAFailedEngine(t *testing.T) {
	for times, want := range map[int]time.Duration{1: 10 * time.Minute, 2: 20 * time.Minute, 8: 1280 * time.Minute, 9: 24 * time.Hour, 1 << 30: 24 * time.Hour} {
		if got := (failedEngine{Times: times}).wait(); got != want {
			t.Errorf("after %d times: %s, want %s", times, got, want)
		}
	}
}
