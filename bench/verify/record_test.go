package verify

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/verify"
)

func TestRecordKeepsTheTable(t *testing.T) {
	var tab table
	s := scene{name: "glass-b", test: true, adaptive: true}
	tab.add(s, []trial{
		{Scene: s.name, Claim: "honest older", Goal: goalHonest, Ruling: job.Accepted},
		{Scene: s.name, Claim: "50 % of the maximum", Goal: goalWhole, Ruling: job.Rejected},
		{Scene: s.name, Claim: "50 % of the maximum", Goal: goalWhole, Ruling: job.Unsure},
	})
	text := func(t *table) string {
		var b strings.Builder
		t.print(&b)
		return b.String()
	}
	file := filepath.Join(t.TempDir(), "record.json.gz")
	if err := tab.record("Blender 0").save(file); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := load(b)
	if err != nil {
		t.Fatal(err)
	}
	if r.Blender != "Blender 0" || text(r.table()) != text(&tab) {
		t.Errorf("%s\nwas\n%s", text(r.table()), text(&tab))
	}
	if _, err := load(b[:len(b)/2]); err == nil {
		t.Error("half a record is read")
	}
	tab.all[0].of[0] = "maybe"
	bad := tab.record("")
	bad.Claims[0].Rulings = "x"
	if err := bad.save(file); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if _, err := load(b); err == nil || !strings.Contains(err.Error(), "glass-b") {
		t.Errorf("a ruling that is none: %v", err)
	}
}

// What is kept was found with the limits that are in use, on all test scenes,
// and no honest frame was rejected.
func TestKeptRecord(t *testing.T) {
	r, err := Kept()
	if err != nil {
		t.Fatal(err)
	}
	if r.Thresholds != verify.DefaultThresholds() {
		t.Error("thresholds are others than those of the record: run `go run ./bench verify --record bench/verify/testdata/record.json.gz`")
	}
	scenes := map[string]bool{}
	for _, c := range r.Claims {
		scenes[c.Scene] = true
		if c.Honest() && strings.Contains(c.Rulings, "r") {
			t.Errorf("%s, %s: rejected", c.Scene, c.Claim)
		}
	}
	if len(scenes) < len(families) {
		t.Errorf("%d scenes, %d are wanted", len(scenes), len(families))
	}
	figures, err := Run(context.Background(), Options{Kept: true, Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if len(figures) == 0 {
		t.Error("no figures")
	}
}
