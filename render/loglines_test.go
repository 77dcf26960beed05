package render

import (
	"slices"
	"strings"
	"testing"
)

func TestLinesOfALogAreHeardWhileSomebodyListens(t *testing.T) {
	var l logLines
	var heard []string
	write := func(s string) {
		t.Helper()
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	write("before\nhalf of a line ")
	l.to(func(line []byte) { heard = append(heard, string(line)) })
	write("one\ntw")
	write("o\n\n" + strings.Repeat("x", 5000) + "\nthe rest")
	l.to(nil)
	write(" of it\nafter\n")
	if want := []string{"one", "two", "", strings.Repeat("x", MaxLine)}; !slices.Equal(heard, want) {
		t.Errorf("%.60q", heard)
	}
}
