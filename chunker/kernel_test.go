package chunker

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestKernelsFindTheSamePosition has every kernel scan from every start, with
// every end, and with limits from which almost everything is nominated to those
// from which nothing is.
func TestKernelsFindTheSamePosition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := append(noise(rapid.Uint64().Draw(t, "seed"), filterWindow), mixed(t)...)
		f := filter{
			multiplier: rapid.Uint32().Draw(t, "multiplier") | 1,
			limit:      ^uint32(0) - 1<<rapid.IntRange(0, 31).Draw(t, "bits"),
		}
		i := filterWindow - 1 + rapid.IntRange(0, 300).Draw(t, "from")
		i = min(i, len(d))
		n := rapid.IntRange(i, len(d)).Draw(t, "to")
		for range 20 {
			want := scanReference(&f, d, i, n)
			for _, k := range kernels() {
				if got := k.scan(&f, d, i, n); got != want {
					t.Fatalf("kernel %s from %d to %d of %d: %d, reference %d", k.name, i, n, len(d), got, want)
				}
			}
			if i = want + 1; i > n {
				break
			}
		}
	})
}

// TestKernelsReadNothingBeyond gives kernels bytes that end where the memory
// of the slice ends; the race detector and checkptr see what is read outside.
func TestKernelsReadNothingBeyond(t *testing.T) {
	f := filter{multiplier: 0x9e3779b1, limit: 1<<32 - 1}
	for n := filterWindow - 1; n < filterWindow+700; n++ {
		d := slices.Clip(noise(uint64(n), n))
		for _, k := range kernels() {
			if got := k.scan(&f, d, filterWindow-1, n); got != n {
				t.Fatalf("kernel %s: %d of %d, where nothing is nominated", k.name, got, n)
			}
		}
	}
}

func TestPickKernel(t *testing.T) {
	all := kernels()
	k, err := pickKernel("")
	if err != nil || k.name != all[0].name {
		t.Errorf("without a name: %s, %v; want %s", k.name, err, all[0].name)
	}
	for _, want := range all {
		if k, err := pickKernel(want.name); err != nil || k.name != want.name {
			t.Errorf("%s: %s, %v", want.name, k.name, err)
		}
	}
	_, err = pickKernel("mmx")
	if err == nil || !strings.Contains(err.Error(), "IDLEWILD_KERNEL=mmx") || !strings.Contains(err.Error(), "portable") {
		t.Errorf("an unknown name: %v", err)
	}
}

// TestTheVariableForcesAKernel runs this test in processes of their own, since
// the variable is read once.
func TestTheVariableForcesAKernel(t *testing.T) {
	const child = "CHUNKER_TEST_CHILD"
	if os.Getenv(child) != "" {
		name, err := KernelName()
		fmt.Printf("kernel=%s err=%v\n", name, err)
		for range 2 { // the error stays
			for c, err := range Chunks(bytes.NewReader(noise(1, 100)), Params{}) {
				fmt.Printf("chunk=%d err=%v\n", len(c.Data), err)
			}
		}
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string) string {
		cmd := exec.Command(exe, "-test.run=^TestTheVariableForcesAKernel$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1", KernelVariable+"="+name)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	for _, k := range kernels() {
		if out := run(k.name); !strings.Contains(out, "kernel="+k.name+" err=<nil>") || strings.Count(out, "chunk=100 err=<nil>") != 2 {
			t.Errorf("%s: %s", k.name, out)
		}
	}
	out := run("mmx")
	if !strings.Contains(out, "kernel= err=IDLEWILD_KERNEL=mmx: no such kernel") || strings.Count(out, "chunk=0 err=IDLEWILD_KERNEL=mmx") != 2 {
		t.Errorf("mmx: %s", out)
	}
}
