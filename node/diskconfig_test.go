package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnder(t *testing.T) {
	for _, c := range []struct{ folder, path, rel string }{
		{"/mnt/projects", "/mnt/projects/shot/wood.exr", "shot/wood.exr"},
		{"/mnt/projects/", "/mnt//projects/./shot/wood.exr", "shot/wood.exr"},
		{"/mnt/projects", "/mnt/projects2/wood.exr", ""},
		{"/mnt/projects", "/mnt/projects", ""},
		{"/mnt/projects", "/mnt/Projects/wood.exr", ""},
		{"/mnt/projects", "/mnt/projects/../secret", ""},
		{"//nas/projects", "//nas/projects/wood.exr", "wood.exr"},
		{"//nas/projects", `\\NAS\Projects\shot\Wood.exr`, "shot/Wood.exr"},
		{`\\nas\projects`, "//nas/projects/wood.exr", "wood.exr"},
		{"//nas/projects", "/nas/projects/wood.exr", ""},
		{`P:\projects`, `p:/Projects/shot\wood.exr`, "shot/wood.exr"},
		{`P:\`, `p:\shot\wood.exr`, "shot/wood.exr"},
		{`P:\`, `P:\`, ""},
		{`P:\projects`, `P:\projects\..\secret`, ""},
		{`P:\projects`, "/mnt/projects/wood.exr", ""},
	} {
		if rel, ok := under(c.folder, c.path); rel != c.rel || ok != (c.rel != "") {
			t.Errorf("%s under %s: %q, %v", c.path, c.folder, rel, ok)
		}
	}
}

func TestDisksInTheSettings(t *testing.T) {
	dir := t.TempDir()
	load := func(text string) (Config, error) {
		if err := os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := LoadConfig("", map[string]string{"data_dir": dir})
		return c, err
	}
	c, err := load("[paths]\nroots = [\"/mnt/projects\"]\n[[paths.map]]\nfrom = \"//nas/projects\"\nto = \"/mnt/projects\"\nsample_from = [\"*\"]\n[[paths.map]]\nfrom = \"/mnt/cache\"\n")
	if err != nil || len(c.Paths.Map) != 2 || c.Paths.Map[0].here() != "/mnt/projects" || c.Paths.Map[1].here() != "/mnt/cache" {
		t.Fatalf("%+v, %v", c.Paths, err)
	}
	for _, o := range c.Origins() {
		if list, ok := o.Value.([]string); o.Key == "paths.map" && (!ok || len(list) != 2 || !strings.Contains(list[0], "//nas/projects")) {
			t.Errorf("shown as %v", o.Value)
		}
	}
	for text, want := range map[string]string{
		`from = ""`:         "needs the form",
		`from = "projects"`: "needs the form",
		`from = "/"`:        "needs the form",
		`from = "//nas/projects"` + "\n" + `to = "../up"`:  "not an absolute path",
		`from = "P:/projects"`:                             "not an absolute path",
		`from = "//nas/projects"` + "\n" + `to = "/"`:      "whole machine",
		"from = \"/a\"\n[[paths.map]]\nfrom = \"/a/\"":     "twice",
		"from = \"/a\"\nverify = \"all\"":                  "no setting",
		strings.Repeat("from=\"/x\"\n[[paths.map]]\n", 64): "there may be",
	} {
		if _, err := load("[[paths.map]]\n" + text + "\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
