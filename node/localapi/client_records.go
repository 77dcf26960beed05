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
