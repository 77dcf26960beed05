package llm

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestAServerIsSettled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT RUN: the stand-in is a shell script")
	}
	dir := t.TempDir()
	server := filepath.Join(dir, Program)
	if err := os.WriteFile(server, []byte("#!/bin/sh\necho \"error: repack $LLAMA_ARG_REPACK, flash attention $LLAMA_ARG_FLASH_ATTN\" >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	_, err := Start(t.Context(), Options{Server: server, Dir: dir, Parallel: 1, Context: 64})
	if err == nil || !strings.Contains(err.Error(), "repack 0, flash attention off") {
		t.Errorf("%v", err)
	}
}
