package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"idlewild/job"
	"idlewild/p2p"
)

func TestBackupIsSealed(t *testing.T) {
	work := 2 // the full one takes a second, and many under the race detector: make test-long
	if os.Getenv("IDLEWILD_SLOW") != "" {
		work = fullScryptWork
	}
	plain := bytes.Repeat([]byte("root key "), 100)
	sealed, err := seal(plain, "several words of it", work)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("root key")) {
		t.Error("it can be read")
	}
	if got, err := unseal(sealed, "several words of it"); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := seal(plain, "ninechars", work); !errors.Is(err, job.ErrRefused) {
		t.Errorf("nine characters: %v", err)
	}
	large, err := seal(make([]byte, p2p.MaxBackupBytes+1), "several words of it", work)
	if err != nil {
		t.Fatal(err)
	}
	costly, err := seal(plain, "several words of it", work)
	if err != nil {
		t.Fatal(err)
	}
	costly = bytes.Replace(costly, fmt.Appendf(nil, " %d\n", work), []byte(" 30\n"), 1)
	var file bytes.Buffer
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	w, err := age.Encrypt(&file, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	for what, c := range map[string]struct {
		sealed []byte
		pass   string
		want   string
	}{
		"another passphrase": {sealed, "several words of is", "another one"},
		"no passphrase":      {sealed, "", "there is none"},
		"half of it":         {sealed[:len(sealed)/2], "several words of it", "damaged"},
		"a bit":              {append(bytes.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1), "several words of it", "damaged"},
		"nothing":            {nil, "several words of it", "no backup"},
		"text":               {[]byte("hello\n"), "several words of it", "no backup"},
		"too long":           {large, "several words of it", "too long"},
		"for a key":          {file.Bytes(), "several words of it", ""},
		"hours of work":      {costly, "several words of it", ""},
	} {
		if _, err := unseal(c.sealed, c.pass); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
