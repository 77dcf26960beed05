package imagefile_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/diffupload/imagefile"
)

// TestOtherDecoders: files that OpenImageIO writes come back as files in which
// it finds the same pixels and the same metadata.
func TestOtherDecoders(t *testing.T) {
	const program = "oiiotool"
	if _, err := exec.LookPath(program); err != nil {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "oiio") {
			t.Fatalf("%s is required and not installed", program)
		}
		t.Skipf("NOT RUN: %s is not installed", program)
	}
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	pattern := func(channels string) []string {
		return []string{"--pattern", "fill:topleft=0.1,0.2,0.3,1:topright=0.9,0.4,0.1,0.5:bottomleft=0.3,0.7,0.2,0.9:bottomright=0,0,1,1",
			"317x203", channels, "--noise:type=gaussian:stddev=0.01"}
	}
	for name, args := range map[string][]string{
		"gray8.png":  append(pattern("1"), "-d", "uint8"),
		"rgb8.png":   append(pattern("3"), "-d", "uint8"),
		"rgba8.png":  append(pattern("4"), "-d", "uint8"),
		"rgb16.png":  append(pattern("3"), "-d", "uint16"),
		"rgba16.png": append(pattern("4"), "-d", "uint16"),
		"zip.exr":    append(pattern("4"), "-d", "half", "--compression", "zip"),
		"zips.exr":   append(pattern("3"), "-d", "float", "--compression", "zips"),
		"tiles.exr":  append(pattern("4"), "--tile", "64", "64", "-d", "half", "--compression", "zip"),
		"crop.exr":   append(pattern("4"), "--crop", "200x100+33-7", "-d", "half", "--compression", "zip"),
	} {
		t.Run(name, func(t *testing.T) {
			from, to := filepath.Join(dir, "a-"+name), filepath.Join(dir, "b-"+name)
			run(append(args, "-o", from)...)
			again(t, from, to)
			run("--diff", "-a", from, to)          // fails where pixels differ
			describe := func(path string) string { // the first file's name is in its metadata
				return strings.NewReplacer(from, "", to, "").Replace(run("--info", "-v", "--hash", path))
			}
			if a, b := describe(from), describe(to); a != b {
				t.Errorf("%s\nbecame\n%s", a, b)
			}
		})
	}
}

// again opens a file and rebuilds it into another, on disk.
func again(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	form, format, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := imagefile.Rebuild(out, bytes.NewReader(form), format, 1<<30); err != nil {
		t.Fatal(err)
	}
}
