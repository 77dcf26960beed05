package media

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// need skips a test whose program is not installed, or fails it where the
// environment says that it must be.
func need(t *testing.T, program, requirement string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), requirement) {
		t.Fatalf("%s is required and not installed", program)
	}
	t.Skipf("NOT RUN: %s is not installed", program)
}

// oiio reads a file with OpenImageIO: another decoder's opinion of its pixels.
func oiio(t *testing.T, path string) map[string][]float32 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "oiiotool", "--info", "-v", path, "--dumpdata", path).Output()
	if err != nil {
		t.Fatalf("oiiotool %s: %v", path, err)
	}
	var names []string
	planes := map[string][]float32{}
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if rest, ok := strings.CutPrefix(line, "channel list: "); ok && names == nil {
			for _, n := range strings.Split(rest, ", ") {
				n, _, _ = strings.Cut(n, " (") // the type, where channels differ in it
				names = append(names, n)
			}
		}
		if !strings.HasPrefix(line, "Pixel (") {
			continue
		}
		_, values, _ := strings.Cut(line, ": ")
		fields := strings.Fields(values)
		if len(fields) < len(names) {
			t.Fatalf("%d values for %d channels: %s", len(fields), len(names), line)
		}
		for k, n := range names {
			v, err := strconv.ParseFloat(fields[k], 32)
			if err != nil && !strings.Contains(err.Error(), "range") {
				t.Fatal(err)
			}
			planes[n] = append(planes[n], float32(v))
		}
	}
	return planes
}

// agree compares what two decoders read. oiiotool prints nine decimals at
// most, so small values agree to those only.
func agree(t *testing.T, what string, m *Image, want map[string][]float32) {
	t.Helper()
	if len(want) != len(m.Channels) {
		t.Errorf("%s: %d channels, oiiotool has %d", what, len(m.Channels), len(want))
	}
	for _, c := range m.Channels {
		w := want[c.Name]
		if len(w) != len(c.Data) {
			t.Errorf("%s: %s has %d samples, oiiotool has %d", what, c.Name, len(c.Data), len(w))
			continue
		}
		for i, v := range c.Data {
			if math.IsNaN(float64(v)) && math.IsNaN(float64(w[i])) || v == w[i] {
				continue
			}
			if d := math.Abs(float64(v - w[i])); !(d <= 1e-6*math.Abs(float64(v))+2e-9) {
				t.Errorf("%s: %s[%d] = %g, oiiotool reads %g", what, c.Name, i, v, w[i])
				break
			}
		}
	}
}

func TestOIIOReadsWhatWeWrite(t *testing.T) {
	need(t, "oiiotool", "oiio")
	m := sampleImage(50, 37)
	for _, half := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "a.exr")
		if err := WriteEXR(path, m, half); err != nil {
			t.Fatal(err)
		}
		mine, err := DecodeFile(path, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		agree(t, fmt.Sprintf("half=%v", half), mine, oiio(t, path))
	}
}

func TestWeReadWhatOIIOWrites(t *testing.T) {
	need(t, "oiiotool", "oiio")
	dir := t.TempDir()
	src := filepath.Join(dir, "src.exr")
	if err := WriteEXR(src, sampleImage(50, 37), false); err != nil {
		t.Fatal(err)
	}
	for _, comp := range []string{"none", "rle", "zips", "zip", "piz"} {
		for _, depth := range []string{"float", "half"} {
			path := filepath.Join(dir, comp+depth+".exr")
			out, err := exec.CommandContext(t.Context(), "oiiotool", src, "--fixnan", "black", "-d", depth, "--compression", comp, "-o", path).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			m, err := DecodeFile(path, Limits{})
			if err != nil {
				t.Fatalf("%s %s: %v", comp, depth, err)
			}
			agree(t, comp+" "+depth, m, oiio(t, path))
			sameRoot(t, path, m)
		}
	}
}

func TestWeReadWhatBlenderWrites(t *testing.T) {
	need(t, "oiiotool", "oiio")
	need(t, "blender", "blender")
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "blender", "-b", "--factory-startup", "--python-exit-code", "3",
		"-P", "testdata/codecs.py", "--", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("blender: %v\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.exr"))
	if err != nil || len(files) != 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		m, err := DecodeFile(f, Limits{})
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(f), err)
		}
		agree(t, filepath.Base(f), m, oiio(t, f))
		sameRoot(t, f, m)
		for _, pass := range []string{"Combined", "Depth", "Debug Sample Count", "IndexOB", "CryptoObject00"} {
			if _, ok := m.Pass("ViewLayer", pass); !ok {
				t.Errorf("%s: no pass %s in %v", filepath.Base(f), pass, m.Passes("ViewLayer"))
			}
		}
		if chans, _ := m.Pass("", "Combined"); len(chans) != 4 {
			t.Errorf("%s: %d channels of Combined", filepath.Base(f), len(chans))
		}
	}
}

// TestPartsNamesAreNotThePicture: since 5.0 Blender writes a part per pass. Its
// name among the attributes of a file of one part would be read as a layer.
func TestPartsNamesAreNotThePicture(t *testing.T) {
	need(t, "oiiotool", "oiio")
	dir := t.TempDir()
	var args []string
	for _, pass := range []string{"Combined", "Depth"} {
		m := New(8, 4)
		m.Attributes = map[string]string{"cryptomatte/1/name": "ViewLayer.CryptoObject"}
		copy(m.Add("ViewLayer."+pass+".X", Float), []float32{1, 2, 3})
		file := filepath.Join(dir, pass+".exr")
		if err := WriteEXR(file, m, false); err != nil {
			t.Fatal(err)
		}
		args = append(args, file, "--attrib", "oiio:subimagename", "ViewLayer."+pass)
	}
	file := filepath.Join(dir, "parts.exr")
	if out, err := exec.CommandContext(t.Context(), "oiiotool", append(args, "--siappend", "-o", file)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m, err := DecodeFile(file, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Channels) != 2 || m.Channels[1].Name != "ViewLayer.Depth.X" {
		t.Fatalf("%d channels, %v", len(m.Channels), m.Channels[len(m.Channels)-1].Name)
	}
	if name, ok := m.Attributes["name"]; ok || m.Attributes["cryptomatte/1/name"] == "" {
		t.Errorf("the picture is called %q, its attributes are %v", name, m.Attributes)
	}
}
