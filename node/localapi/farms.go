package localapi

import (
	"context"

	"github.com/danielgtaylor/huma/v2"
)

// Farms are the farms that this machine is in. Each has a data folder, and in it
// a door like this one, where its members and jobs are.
type Farms interface {
	// List has the first farm, without a name, before the others.
	List(ctx context.Context) []OneFarm
	// Add makes room for one more farm, under a name of this machine's. It is
	// created or joined at the door of its folder.
	Add(ctx context.Context, name string) (OneFarm, error)
	// Drop removes one with its folder. It refuses where this machine is the
	// farm's owner or has open jobs there; Force does not.
	Drop(ctx context.Context, name string) error
	Force(ctx context.Context, name string) error
}

// OneFarm is one of them at a glance.
type OneFarm struct {
	Name      string `json:"name" doc:"This machine's name for it; empty: the first"`
	DataDir   string `json:"data_dir"`
	Peer      string `json:"peer,omitempty" doc:"This machine's identity in it"`
	ID        string `json:"id,omitempty" doc:"Of the farm; absent: in none"`
	Farm      string `json:"farm,omitempty" doc:"Name of the farm"`
	Owner     bool   `json:"owner"`
	Role      string `json:"role,omitempty"`
	Revoked   bool   `json:"revoked"`
	Members   int    `json:"members"`
	Connected int    `json:"connected"`
	OpenJobs  int    `json:"open_jobs" doc:"Of this machine"`
	Trouble   string `json:"trouble,omitempty" doc:"Why it does not run"`
}

type farmsBody struct {
	Name string `json:"name" minLength:"1" maxLength:"32"`
}

func (h *Handler) farmsRoutes(op func(id, method, path, summary string, status int) huma.Operation) {
	if h.Farms == nil {
		return
	}
	huma.Register(h.api, op("farms", "GET", "/v1/farms", "The farms that this machine is in", 200),
		func(ctx context.Context, _ *struct{}) (*out[[]OneFarm], error) {
			return &out[[]OneFarm]{h.Farms.List(ctx)}, nil
		})
	huma.Register(h.api, op("add-farm", "POST", "/v1/farms", "Make room for one more farm", 201),
		func(ctx context.Context, r *in[farmsBody]) (*out[OneFarm], error) {
			v, err := h.Farms.Add(ctx, r.Body.Name)
			if err != nil {
				return nil, answer(err)
			}
			return &out[OneFarm]{v}, nil
		})
	drop := func(do func(context.Context, string) error) func(context.Context, *in[farmsBody]) (*out[[]OneFarm], error) {
		return func(ctx context.Context, r *in[farmsBody]) (*out[[]OneFarm], error) {
			if err := do(ctx, r.Body.Name); err != nil {
				return nil, answer(err)
			}
			return &out[[]OneFarm]{h.Farms.List(ctx)}, nil
		}
	}
	huma.Register(h.api, op("drop-farm", "POST", "/v1/farms/drop", "Remove a further farm and its folder", 200), drop(h.Farms.Drop))
	huma.Register(h.api, op("force-drop-farm", "POST", "/v1/farms/drop/force", "Remove a further farm, whatever is lost by it", 200), drop(h.Farms.Force))
}

// Farms lists the farms that this machine is in.
func (c *Client) Farms(ctx context.Context) (v []OneFarm, err error) {
	return v, c.call(ctx, "GET", "/v1/farms", nil, &v)
}

// AddFarm makes room for one more; see Farms.
func (c *Client) AddFarm(ctx context.Context, name string) (v OneFarm, err error) {
	return v, c.call(ctx, "POST", "/v1/farms", farmsBody{name}, &v)
}

// DropFarm removes one, with force whatever is lost by it; see Farms.
func (c *Client) DropFarm(ctx context.Context, name string, force bool) (v []OneFarm, err error) {
	path := "/v1/farms/drop"
	if force {
		path += "/force"
	}
	return v, c.call(ctx, "POST", path, farmsBody{name}, &v)
}
