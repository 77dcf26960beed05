package job

import (
	"strings"
	"testing"
)

func TestFilesOnDisksAreBounded(t *testing.T) {
	list := func(files ...DiskFile) []byte {
		b, err := EncodeDiskFiles(files)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := DiskFile{Name: "a.exr", At: "//nas/p/a.exr", Size: 7, Mod: -1}
	b := list(good)
	if got, err := DecodeDiskFiles(b); err != nil || len(got) != 1 || got[0] != good {
		t.Errorf("%v, %v", got, err)
	}
	later, err := Encode(diskList{2, []DiskFile{good}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"version": later, "many": list(make([]DiskFile, MaxDiskFiles+1)...), "cut": b[:len(b)-1], "empty": nil, "large": make([]byte, MaxDiskListBytes+1),
		"path": list(DiskFile{At: strings.Repeat("x", maxDiskPathBytes+1)}), "name": list(DiskFile{Name: strings.Repeat("x", maxDiskPathBytes+1)}),
		"size": list(DiskFile{Size: -1}), "zero byte": list(DiskFile{At: "//nas/p/a\x00b"}),
	} {
		if _, err := DecodeDiskFiles(b); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}
