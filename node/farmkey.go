package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"

	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/p2p"
)

const (
	// minPassphrase is what a backup of a farm's root key has to be worth.
	minPassphrase = 10
	// fullScryptWork is the cost of trying one passphrase, as a power of two:
	// about a second and 256 MB. More than maxScryptWork is not tried for a file.
	fullScryptWork = 18
	maxScryptWork  = 20
)

// seal encrypts a backup with a passphrase, as age's command does: it can be
// opened without this program, too.
func seal(plain []byte, passphrase string, work int) ([]byte, error) {
	if len([]rune(passphrase)) < minPassphrase {
		return nil, job.Refuse("passphrase", fmt.Sprintf("it has fewer than %d characters", minPassphrase), "take several words: whoever opens the backup owns the farm")
	}
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	r.SetWorkFactor(work)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		return nil, err
	}
	if _, err = w.Write(plain); err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}

func unseal(sealed []byte, passphrase string) ([]byte, error) {
	if passphrase == "" {
		return nil, job.Refuse("passphrase", "there is none", "give the one that the backup was made with")
	}
	i, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	i.SetMaxWorkFactor(maxScryptWork)
	var plain []byte
	r, err := age.Decrypt(bytes.NewReader(sealed), i)
	if err == nil {
		plain, err = io.ReadAll(io.LimitReader(r, p2p.MaxBackupBytes+1))
	}
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none) || errors.Is(err, age.ErrIncorrectIdentity):
		return nil, job.Refuse("backup", "the passphrase is another one", "try again")
	case err != nil:
		return nil, job.Refuse("backup", "it is no backup of a farm, or it is damaged: "+err.Error(), "take another copy")
	case len(plain) > p2p.MaxBackupBytes:
		return nil, job.Refuse("backup", "it is too long", "take another copy")
	}
	return plain, nil
}

// Backup implements localapi.Farm.
func (f farmView) Backup(_ context.Context, passphrase string) ([]byte, error) {
	plain, err := f.n.host.Membership().Backup()
	if err != nil {
		return nil, refusal(err)
	}
	return seal(plain, passphrase, scryptWork)
}

// Recover implements localapi.Farm.
func (f farmView) Recover(_ context.Context, sealed []byte, passphrase string) (localapi.FarmView, error) {
	plain, err := unseal(sealed, passphrase)
	if err != nil {
		return localapi.FarmView{}, err
	}
	if _, err := f.n.host.Membership().Recover(plain); err != nil {
		return localapi.FarmView{}, refusal(err)
	}
	return f.View(), nil
}

// Rotate implements localapi.Farm.
func (f farmView) Rotate(_ context.Context, carry time.Duration) (localapi.FarmView, error) {
	if _, err := f.n.host.Membership().Rotate(carry); err != nil {
		return localapi.FarmView{}, refusal(err)
	}
	return f.View(), nil
}
