package localapi

import (
	"context"
	"strconv"
)

// LoginCode returns a code that opens the dashboard in a browser, once.
func (c *Client) LoginCode(ctx context.Context) (v LoginCode, err error) {
	return v, c.call(ctx, "POST", "/v1/login/codes", nil, &v)
}

// History returns what this machine did, by day; see Records.
func (c *Client) History(ctx context.Context, days int) (v HistoryView, err error) {
	return v, c.call(ctx, "GET", "/v1/history?days="+strconv.Itoa(days), nil, &v)
}

// Settings returns every setting of the daemon as it runs.
func (c *Client) Settings(ctx context.Context) (v SettingsView, err error) {
	return v, c.call(ctx, "GET", "/v1/settings", nil, &v)
}

// Lines returns the newest lines of the daemon's log, oldest first.
func (c *Client) Lines(ctx context.Context) ([]string, error) {
	var v LogText
	return v.Lines, c.call(ctx, "GET", "/v1/machine/log", nil, &v)
}

// Change puts values into the file of the settings; see Records.
func (c *Client) Change(ctx context.Context, values map[string]any) (v SettingsView, err error) {
	return v, c.call(ctx, "PATCH", "/v1/settings", ChangeBody{values}, &v)
}

// Restart ends the daemon and starts it again.
func (c *Client) Restart(ctx context.Context) error {
	var v Restarting
	return c.call(ctx, "POST", "/v1/machine/restart", nil, &v)
}
