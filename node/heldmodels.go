package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"idlewild/job"
)

// heldFile lists the models whose files the store keeps for workers, by their
// hashes: it is written before the store, so that nothing stays for ever.
const heldFile = "held-models.json"

func readHeld(cfg Config) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(cfg.DataDir, heldFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var held []string
	if err == nil {
		err = json.Unmarshal(b, &held)
	}
	return held, err
}

// hold writes down that the store keeps a model. Of several at once one goes after
// the other.
func (a *asker) hold(sha256 string) error {
	a.holds.Lock()
	defer a.holds.Unlock()
	held, err := readHeld(a.cfg)
	if err != nil || slices.Contains(held, sha256) {
		return err
	}
	return writeWhole(filepath.Join(a.cfg.DataDir, heldFile), append(held, sha256))
}

// letGo lets the store forget the models that were removed.
func (a *asker) letGo(ctx context.Context, release func(context.Context, job.ID) error) error {
	a.holds.Lock()
	defer a.holds.Unlock()
	held, err := readHeld(a.cfg)
	if err != nil || len(held) == 0 {
		return err
	}
	list, err := Models(a.cfg)
	if err != nil {
		return err
	}
	var stay []string
	for _, sum := range held {
		if slices.ContainsFunc(list, func(m Model) bool { return m.SHA256 == sum }) {
			stay = append(stay, sum)
			continue
		}
		b, err := hex.DecodeString(sum)
		if err != nil || len(b) != 32 {
			continue
		}
		if err := release(ctx, job.IDOf([32]byte(b))); err != nil {
			return err
		}
	}
	if len(stay) == len(held) {
		return nil
	}
	return writeWhole(filepath.Join(a.cfg.DataDir, heldFile), stay)
}
