package support

import (
	"regexp"
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	s := newScrub()
	s.know("member", "Turm")
	s.know("title", "The Engine Movie")
	s.knowPath("/home/ada/Engine Movie/hero_v003.blend")
	for in, want := range map[string]string{ // what is numbered comes once
		"Turm rests":                     "<member 1> rests",
		"sturm and TURM":                 "sturm and <member 1>",
		"the engine movie is open":       "<title 1> is open",
		"hero_v003 and hero_v003.blend1": "<name 4> and <name 4>.blend1",
		`farm "studio" is full`:          `farm "…" is full`,
		`it's Bob's`:                     `it's Bob's`,
		"open /home/ada/A B/x.blend: no such file or directory":   "open <path>: no such file or directory",
		`open C:\Users\Ada L\x.blend: The system cannot find`:     "open <path>: The system cannot find",
		`\\nas\Secret Show\a.exr is missing`:                      "<path>",
		"lib/wood.png, textures/bark.exr":                         "<path>, <path>",
		"image wood.png is missing":                               "image <file> is missing",
		"pipeline.example.com answers 500":                        "<file> answers 500",
		"ada@example.com":                                         "<mail 1>",
		"https://x.y/z?token=abc failed":                          "<url 1> failed",
		"dial 192.168.7.9:4001, 127.0.0.1":                        "dial <private address 1>:4001, 127.0.0.1",
		"/ip4/8.8.8.8/udp/4001/quic-v1":                           "ip4:<public address 1>/udp/4001/quic-v1",
		"idlewild/0.1.0 on linux/amd64, 3 MB/s, go 1.26.3, 12:30": "idlewild/0.1.0 on linux/amd64, 3 MB/s, go 1.26.3, 12:30",
		"token ABCDEFGHIJKLMNOPQRSTUVWXYZ":                        "token <id 1>",
		"secret whsec_c2hvcnRlc3Qgb25l":                           "secret <secret 1>",
		"GPU-5f0c1234-aaaa-bbbb-cccc-0123456789ab is hot":         "<uuid 1> is hot",
		"config.toml is damaged":                                  "config.toml is damaged",
	} {
		if got := s.text(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestLine(t *testing.T) {
	s := newScrub()
	in := `time=2026-11-25T18:00:00.000Z level=INFO msg="what a device may do" part=idle device=cpu signal=program reason="hades2 runs (a game)" file=/a/b n=3 took=1.5ms error="open \"/x/y z\": \"Suzanne\" is \"bad\""`
	want := `time=2026-11-25T18:00:00.000Z level=INFO msg="what a device may do" part=idle device=cpu signal=program reason=… file=… n=3 took=1.5ms error=`
	got := s.line(in)
	if !strings.HasPrefix(got, want) || regexp.MustCompile(`hades|Suzanne|y z|/x`).MatchString(got) {
		t.Error(got)
	}
	if got := s.line("panic: runtime error /home/ada/x.go:12"); strings.Contains(got, "ada") {
		t.Error(got)
	}
}

// Names of every shape go, however they stand in a text, and the work grows
// with the text alone.
func TestManyNames(t *testing.T) {
	s := newScrub()
	var names []string
	for i := range 3 * maxWords {
		n := "Ünïcode-" + strings.Repeat("q", i%5) + string(rune('a'+i%26)) + strings.Repeat("z", i/5%40)
		s.know("name", n)
		names = append(names, n)
	}
	if len(s.words) > maxWords {
		t.Errorf("%d words", len(s.words))
	}
	for _, n := range names[:50] {
		if got := s.text("by " + n + ", again"); strings.Contains(got, n) {
			t.Error(got)
		}
	}
	s.text(strings.Repeat("\xff/\"'", 10000))
}
