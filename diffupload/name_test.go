package diffupload

import (
	"strings"
	"testing"
)

func TestNamesThatWindowsHasNot(t *testing.T) {
	for _, bad := range []string{"CON", "nul.txt", "aux", "Com1.vdb", "LPT¹", "a?", "a.", "a ", "tab\there", "com5 .x", `quote"`} {
		if !notOnWindows(bad) {
			t.Errorf("%q would be written", bad)
		}
		if safeName(bad) != nil {
			t.Errorf("%q is refused everywhere", bad)
		}
	}
	for _, good := range []string{"console", "a.b", "com", "com10", "nulls.txt", "日本", ".hidden", "lpt", "COMA"} {
		if notOnWindows(good) {
			t.Errorf("%q", good)
		}
	}
	_, list := tree(t, map[string][]byte{"a/con": []byte("x"), "b": []byte("y")})
	r, err := Snapshot(t.Context(), &Memory{}, list, Options{})
	if err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], `"a/con"`) {
		t.Errorf("%v, %v", r.Warnings, err)
	}
	if _, err := Snapshot(t.Context(), &Memory{}, []File{{Path: list[1].Path, Name: "\xff\xfe.png"}}, Options{}); err == nil || !strings.Contains(err.Error(), list[1].Path) || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("a name that is no UTF-8: %v", err)
	}
}
