package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"

	"idlewild/internal/ondisk"
)

// loadIdentity reads this machine's key from the data folder, or makes one.
// The key never leaves the folder; a damaged one is an error, never replaced.
func loadIdentity(dir string) (crypto.PrivKey, error) {
	path := filepath.Join(dir, "identity.key")
	b, err := os.ReadFile(path)
	if err == nil {
		key, err := crypto.UnmarshalPrivateKey(b)
		if err != nil {
			return nil, fmt.Errorf("identity key %s is damaged: %w; restore it from a backup, or remove it to become a new peer", path, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("identity key: %w", err)
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity key: %w", err)
	}
	if b, err = crypto.MarshalPrivateKey(key); err != nil {
		return nil, fmt.Errorf("identity key: %w", err)
	}
	if err := ondisk.WriteFile(path, b, 0o600); err != nil {
		return nil, fmt.Errorf("identity key: %w", err)
	}
	return key, nil
}
