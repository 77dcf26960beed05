package support

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// scrub takes names out of text. What it knows to be a name it replaces by a
// word that is the same each time, so that a reader can tell two members or
// jobs apart; what looks like a name, a path or a secret it replaces as well.
type scrub struct {
	words []word // longest first
	given map[string]string
	count map[string]int
}

// word is a known name, in lower case, and what stands for it.
type word struct{ text, stands string }

func newScrub() *scrub { return &scrub{given: map[string]string{}, count: map[string]int{}} }

// maxWords bounds the names that are looked for: each is looked for in all of
// the text.
const maxWords = 5000

// know has a name replaced wherever it stands by itself.
func (s *scrub) know(kind, text string) {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" || len(s.words) >= maxWords || slices.ContainsFunc(s.words, func(w word) bool { return w.text == text }) {
		return
	}
	s.words = append(s.words, word{text, s.stand(kind, text)})
	slices.SortStableFunc(s.words, func(a, b word) int { return cmp.Compare(len(b.text), len(a.text)) })
}

// plain are parts of paths that say nothing of anybody.
var plain = map[string]bool{
	"home": true, "users": true, "tmp": true, "var": true, "mnt": true, "media": true, "opt": true, "usr": true, "root": true, "data": true,
	"share": true, "local": true, "idlewild": true, "render": true, "out": true, "output": true, "documents": true, "desktop": true,
	"log": true, "run": true, "bin": true, "lib": true,
}

// knowPath has every part of a path replaced.
func (s *scrub) knowPath(p string) {
	for _, part := range strings.FieldsFunc(p, func(r rune) bool { return r == '/' || r == '\\' }) {
		base := strings.TrimSuffix(part, filepath.Ext(part))
		for _, x := range []string{part, base} {
			if len(x) >= 3 && !plain[strings.ToLower(x)] {
				s.know("name", x)
			}
		}
	}
}

// stand is what stands for a thing of a kind.
func (s *scrub) stand(kind, text string) string {
	key := kind + "\x00" + text
	if g, ok := s.given[key]; ok {
		return g
	}
	s.count[kind]++
	g := fmt.Sprintf("<%s %d>", kind, s.count[kind])
	s.given[key] = g
	return g
}

// own are names of files that are the same on every machine.
var own = map[string]bool{
	"config.toml": true, "config.toml.before": true, "api.json": true, "api.sock": true, "identity.key": true, "history.json": true, "energy.json": true,
	"stat.cache": true, "daemon.log": true, "onnxruntime.so": true,
}

var (
	patterns = []struct {
		kind string
		re   *regexp.Regexp
	}{
		{"ticket", regexp.MustCompile(`idlewild\d+:\S+`)},
		{"mail", regexp.MustCompile(`[\w.+-]+@[\w-]+(?:\.[\w-]+)+`)},
		{"url", regexp.MustCompile(`\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"']+`)},
		{"peer", regexp.MustCompile(`\b(?:12D3Koo\w{40,}|Qm\w{44})\b`)},
		{"secret", regexp.MustCompile(`\bwhsec_[A-Za-z0-9+/=]+`)},
		{"content", regexp.MustCompile(`\bb[a-z2-7]{50,}\b`)},
		{"id", regexp.MustCompile(`\b[0-9A-Z]{26}\b`)},
		{"uuid", regexp.MustCompile(`\b(?:GPU-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b`)},
		{"secret", regexp.MustCompile(`[A-Za-z0-9+_-]{32,}={0,2}`)},
	}
	multiaddr = regexp.MustCompile(`/(ip4|ip6|dns|dns4|dns6|dnsaddr)/([^/\s"',]+)`)
	address   = regexp.MustCompile(`\[?(?:[0-9a-fA-F]{0,4}:){2,}[0-9a-fA-F.:]*(?:%\w+)?\]?|\b\d{1,3}(?:\.\d{1,3}){3}\b`)
	// A path goes on to a mark that ends a clause: there may be spaces in it.
	absolute = regexp.MustCompile(`(^|[\s"'(=\[,:])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^"'\n;,)\]>]*?(: |["'\n;,)\]]|$)`)
	relative = regexp.MustCompile(`[^\s"'(=<>]*[/\\][^\s"')<>]+`)
	quoted   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|“[^”]*”|\B'[^'\s][^']*'\B`)
	named    = regexp.MustCompile(`[\w\p{L}-]+(?:\.[\w\p{L}-]+)*\.[A-Za-z][\w]{1,9}\b`) // files and hosts
	harmless = regexp.MustCompile(`^(idlewild/[\d.]+\S*|\d[\d.]*/\d[\d.]*|\w*B/s|\w*bit/s|1/s|/?(tcp|udp|quic|quic-v1|tls|ws)(/\d+)?(/(quic-v1|p2p-circuit|p2p|tls))*/?|linux/\w+|windows/\w+|darwin/\w+)$`)
)

// text takes names out.
func (s *scrub) text(t string) string {
	t = strings.ToValidUTF8(t, "?")
	t = multiaddr.ReplaceAllStringFunc(t, func(m string) string {
		f := strings.SplitN(m, "/", 3)
		return f[1] + ":" + s.host(f[2])
	})
	for _, p := range patterns {
		t = p.re.ReplaceAllStringFunc(t, func(m string) string {
			if strings.HasPrefix(m, "<") {
				return m
			}
			return s.stand(p.kind, m)
		})
	}
	t = absolute.ReplaceAllString(t, "$1<path>$2")
	t = s.known(t)
	t = address.ReplaceAllStringFunc(t, s.host)
	t = quoted.ReplaceAllStringFunc(t, func(m string) string {
		if inner := strings.Trim(m, `"'“”`); inner == "" || known(inner) {
			return m
		}
		return `"…"`
	})
	t = relative.ReplaceAllStringFunc(t, func(m string) string {
		body := strings.TrimRight(m, ",;.")
		if harmless.MatchString(body) {
			return m
		}
		return "<path>" + m[len(body):]
	})
	return named.ReplaceAllStringFunc(t, func(m string) string {
		if own[m] || isVersion(m) {
			return m
		}
		return "<file>"
	})
}

// known reports whether a text is what stands for something, or one of the
// words of idlewild itself.
func known(t string) bool {
	return strings.HasPrefix(t, "<") && strings.HasSuffix(t, ">") && !strings.ContainsAny(t[1:len(t)-1], "<>")
}

func isVersion(t string) bool {
	return t != "" && (t[0] >= '0' && t[0] <= '9') && !strings.ContainsAny(t, "_")
}

// host says what sort of address it is, and tells equal ones.
func (s *scrub) host(h string) string {
	a, err := netip.ParseAddr(strings.Trim(h, "[]"))
	switch {
	case err != nil && strings.ContainsAny(h, ".:") && (strings.HasPrefix(h, "::") || strings.Count(h, ":") > 2):
		return s.stand("address", h)
	case err != nil && strings.Contains(h, ":"):
		return h // a time of day
	case err != nil:
		return s.stand("host", h)
	case a.IsLoopback() || a.IsUnspecified():
		return h
	case a.IsPrivate() || a.IsLinkLocalUnicast():
		return s.stand("private address", a.String())
	}
	return s.stand("public address", a.String())
}

// known replaces names that are known, where they stand by themselves.
func (s *scrub) known(t string) string {
	for _, w := range s.words {
		lower := strings.ToLower(t)
		if len(lower) != len(t) {
			lower = t // letters whose cases differ in length: compare as they are
		}
		if !strings.Contains(lower, w.text) {
			continue
		}
		var b strings.Builder
		for at := 0; at < len(t); {
			i := strings.Index(lower[at:], w.text)
			if i < 0 {
				b.WriteString(t[at:])
				break
			}
			from, to := at+i, at+i+len(w.text)
			before, _ := utf8.DecodeLastRuneInString(t[:from])
			after, _ := utf8.DecodeRuneInString(t[to:])
			b.WriteString(t[at:from])
			if from > 0 && letter(before) && letter(rune(w.text[0])) || to < len(t) && letter(after) && letter(rune(w.text[len(w.text)-1])) {
				b.WriteString(t[from:to]) // part of another word
			} else {
				b.WriteString(w.stands)
			}
			at = to
		}
		t = b.String()
	}
	return t
}

func letter(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// clean is v as JSON gives it, without names. Strings below the given keys stay
// as they are: they are words of ours.
func (s *scrub) clean(v any, keep map[string]bool) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var tree any
	if err := json.Unmarshal(b, &tree); err != nil {
		return nil, err
	}
	return s.walk(tree, "", keep), nil
}

func (s *scrub) walk(v any, key string, keep map[string]bool) any {
	switch v := v.(type) {
	case string:
		if keep[key] || len(v) >= 20 && v[4] == '-' && v[10] == 'T' && rfc3339.MatchString(v) {
			return v
		}
		return s.text(v)
	case []any:
		for i := range v {
			v[i] = s.walk(v[i], key, keep)
		}
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			name := k
			if !word1.MatchString(k) {
				name = s.text(k)
			} else if w := s.known(k); w != k {
				name = w
			}
			out[name] = s.walk(x, k, keep)
		}
		return out
	}
	return v
}

var (
	rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)
	word1   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`)
)
