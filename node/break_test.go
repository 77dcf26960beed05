package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
)

// overHTTP are the texts and lists among the settings that the dashboard may
// change: none names a program, or a place that programs come from.
var overHTTP = []string{
	"api.address", "check.checkers", "check.trust", "farm.stewards", "hooks.events", "hooks.secret", "hooks.url", "idle.game_folders", "idle.hours",
	"idle.ignore_programs", "idle.mode", "idle.programs",
	"idle.on_return", "limits.priority", "log.level", "metrics.address", "name", "network.exchange", "network.interface", "network.listen",
	"network.metered", "network.profile", "onnx.models", "steward.only_from", "update.mode", "worker.never_from", "worker.only_from",
}

// A new setting that is a text is changed in the file, unless somebody says here
// that it is harmless in the hands of whoever has the dashboard's token.
func TestNoSettingOverHTTPNamesAProgram(t *testing.T) {
	c := DefaultConfig()
	for key, v := range leaves(reflect.ValueOf(&c).Elem(), "") {
		if k := v.Kind(); k != reflect.String && k != reflect.Slice || fixed(key, "default") != "" {
			continue
		}
		if !slices.Contains(overHTTP, key) {
			t.Errorf("%s can be changed over the local API", key)
		}
	}
}

// What the list of models says is read, moved and removed: it names nothing
// outside the folder of models.
func TestListOfModelsNamesNothingOutside(t *testing.T) {
	outside := t.TempDir()
	kept := filepath.Join(outside, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, m := range []Model{
		{Name: "m", File: "f", SHA256: strings.Repeat("./", 28) + "../../xx"},
		{Name: "m", File: "f", SHA256: strings.Repeat("./", 31) + ".."},
		{Name: "m", File: "f", SHA256: strings.Repeat("A", 63) + "/"},
		{Name: "m", File: "..", SHA256: strings.Repeat("a", 64)},
		{Name: "m", File: "", SHA256: strings.Repeat("a", 64)},
	} {
		c := DefaultConfig()
		c.DataDir = filepath.Join(outside, "data")
		b, err := json.Marshal([]Model{m})
		if err == nil {
			err = errors.Join(os.MkdirAll(modelsDir(c), 0o700), os.WriteFile(filepath.Join(modelsDir(c), "models.json"), b, 0o600),
				os.MkdirAll(filepath.Join(outside, "xx"), 0o700))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := RemoveModel(c, "m"); err == nil {
			t.Errorf("%+v was removed", m)
		}
		for _, p := range []string{kept, filepath.Join(outside, "xx"), filepath.Join(modelsDir(c), "models.json")} {
			if _, err := os.Stat(p); err != nil {
				t.Errorf("%+v: %v", m, err)
			}
		}
	}
}

// A data folder that is a home folder, or above one, has folders of its owner's
// with the same names as ours.
func TestPurgeLeavesHomeAlone(t *testing.T) {
	home := filepath.Join(t.TempDir(), "people", "me")
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	mine := filepath.Join(home, "models", "mine")
	if err := os.MkdirAll(mine, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(home, link); err != nil {
		t.Skip("NOT RUN: no symbolic links here")
	}
	for _, dir := range []string{home, filepath.Dir(home)} {
		if err := os.WriteFile(filepath.Join(dir, "identity.key"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{home, filepath.Dir(home), link} {
		if left, err := Purge(dir); !errors.Is(err, job.ErrRefused) {
			t.Errorf("%s: left %v, %v", dir, left, err)
		}
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}

// Everything of ours goes, whatever was used.
func TestPurgeKnowsAllOfOurs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"identity.key", heldFile, canariesFile, earlierFile, historyFile, energyFile, powerFile, pauseFile, configFile} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{auditDir, "batches", "steward", CopiesDir} {
		if err := os.MkdirAll(filepath.Join(dir, name, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := Purge(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// A power cut may leave megabytes of zeros where lines were. What is written
// afterwards can be read, and so can what was before.
func TestAuditAfterZeros(t *testing.T) {
	for name, junk := range map[string]int{"a little": 10000, "much": 3 << 20} {
		dir := t.TempDir()
		a := testAudit(t, dir)
		id := job.NewID(time.Now())
		put := func() {
			t.Helper()
			if err := a.Given(given(t, time.Now(), id)); err != nil {
				t.Fatal(err)
			}
		}
		put()
		a.Close()
		whole, err := os.ReadFile(a.path(0))
		if err == nil {
			err = os.WriteFile(a.path(0), append(whole, make([]byte, junk)...), 0o600)
		}
		if err == nil { // a file of before, damaged in its middle
			err = os.WriteFile(a.path(1), slices.Concat(whole, bytes.Repeat([]byte{0}, junk), []byte("\n"), whole), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		put()
		v, err := a.Audit(localapi.AuditQuery{})
		if err != nil || v.Found != 4 || v.Damaged != 1 {
			t.Errorf("%s: %d found, %d damaged, %v", name, v.Found, v.Damaged, err)
		}
		a.Close()
	}
}
