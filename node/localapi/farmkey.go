package localapi

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// MaxBackupBytes bounds an encrypted backup of a farm's root key.
const MaxBackupBytes = MaxBodyBytes / 2

type (
	// Backup is a farm's root key and members, encrypted.
	Backup struct {
		File []byte `json:"file" doc:"An age file; base64"`
	}

	backupBody struct {
		Passphrase string `json:"passphrase" minLength:"1" maxLength:"1024"`
	}
	recoverBody struct {
		File       []byte `json:"file"`
		Passphrase string `json:"passphrase" minLength:"1" maxLength:"1024"`
	}
	rotateBody struct {
		CarrySeconds float64 `json:"carry_s" minimum:"0" maximum:"86400" doc:"For how long members need no new certificate"`
	}
)

func (h *Handler) farmKeyRoutes(op func(id, method, path, summary string, status int) huma.Operation) {
	huma.Register(h.api, op("backup-farm", "POST", "/v1/farm/backup", "The farm's root key and members, encrypted with a passphrase", 200),
		func(ctx context.Context, r *in[backupBody]) (*out[Backup], error) {
			b, err := h.Farm.Backup(ctx, r.Body.Passphrase)
			return &out[Backup]{Backup{b}}, answer(err)
		})
	huma.Register(h.api, op("recover-farm", "POST", "/v1/farm/recover", "Become an owner of the farm that a backup is of", 200),
		func(ctx context.Context, r *in[recoverBody]) (*out[FarmView], error) {
			v, err := h.Farm.Recover(ctx, r.Body.File, r.Body.Passphrase)
			return &out[FarmView]{v}, answer(err)
		})
	huma.Register(h.api, op("rotate-farm", "POST", "/v1/farm/rotate", "Replace the farm's root key", 200),
		func(ctx context.Context, r *in[rotateBody]) (*out[FarmView], error) {
			v, err := h.Farm.Rotate(ctx, time.Duration(r.Body.CarrySeconds*float64(time.Second)))
			return &out[FarmView]{v}, answer(err)
		})
}

// BackupFarm returns the farm's root key, encrypted; see Farm.
func (c *Client) BackupFarm(ctx context.Context, passphrase string) ([]byte, error) {
	var v Backup
	err := c.call(ctx, "POST", "/v1/farm/backup", backupBody{passphrase}, &v)
	return v.File, err
}

// RecoverFarm makes the machine an owner of the farm that a backup is of; see
// Farm.
func (c *Client) RecoverFarm(ctx context.Context, file []byte, passphrase string) (v FarmView, err error) {
	return v, c.call(ctx, "POST", "/v1/farm/recover", recoverBody{file, passphrase}, &v)
}

// RotateFarm replaces the farm's root key; see Farm.
func (c *Client) RotateFarm(ctx context.Context, carry time.Duration) (v FarmView, err error) {
	return v, c.call(ctx, "POST", "/v1/farm/rotate", rotateBody{carry.Seconds()}, &v)
}
