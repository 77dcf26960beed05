package localapi

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

type (
	// Opening is the line by which strangers come into an open farm.
	Opening struct {
		Opening string `json:"opening"`
	}

	openBody struct {
		ValidSeconds float64 `json:"valid_s" exclusiveMinimum:"0" maximum:"31622400" doc:"For how long strangers may come"`
		Bits         int     `json:"bits,omitempty" minimum:"0" maximum:"30" doc:"Of work that each does once; 0: the usual"`
	}
)

func (h *Handler) openFarmRoutes(op func(id, method, path, summary string, status int) huma.Operation) {
	huma.Register(h.api, op("open-farm", "POST", "/v1/farm/open", "Open the farm to strangers", 200),
		func(ctx context.Context, r *in[openBody]) (*out[Opening], error) {
			line, err := h.Farm.Open(ctx, time.Duration(r.Body.ValidSeconds*float64(time.Second)), r.Body.Bits)
			return &out[Opening]{Opening{line}}, answer(err)
		})
	huma.Register(h.api, op("close-farm", "POST", "/v1/farm/close", "Close the farm to strangers", 200),
		func(ctx context.Context, _ *struct{}) (*out[FarmView], error) {
			v, err := h.Farm.Close(ctx)
			return &out[FarmView]{v}, answer(err)
		})
	huma.Register(h.api, op("opening", "GET", "/v1/farm/opening", "The line by which strangers come into the open farm", 200),
		func(ctx context.Context, _ *struct{}) (*out[Opening], error) {
			line, err := h.Farm.Opening(ctx)
			return &out[Opening]{Opening{line}}, answer(err)
		})
}

// OpenFarm opens the farm to strangers; see Farm.
func (c *Client) OpenFarm(ctx context.Context, valid time.Duration, bits int) (string, error) {
	var v Opening
	err := c.call(ctx, "POST", "/v1/farm/open", openBody{valid.Seconds(), bits}, &v)
	return v.Opening, err
}

// CloseFarm closes the farm to strangers; see Farm.
func (c *Client) CloseFarm(ctx context.Context) (v FarmView, err error) {
	return v, c.call(ctx, "POST", "/v1/farm/close", nil, &v)
}

// Opening returns the line by which strangers come; see Farm.
func (c *Client) Opening(ctx context.Context) (string, error) {
	var v Opening
	err := c.call(ctx, "GET", "/v1/farm/opening", nil, &v)
	return v.Opening, err
}
