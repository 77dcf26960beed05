package node

import (
	"context"
	"time"

	"idlewild/node/localapi"
)

// engineLook is how often it is looked whether an engine is to be tried again.
const engineLook = time.Minute

// retryEngines tries engines of Blender again that did not render here, now and
// then, and tells the farm where one does.
func (n *Node) retryEngines(ctx context.Context) error {
	tick := time.NewTicker(engineLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !n.owner.free() {
			continue // a try takes processor and GPU, which its owner may want
		}
		if err := n.kit.retryEngines(ctx, time.Now()); err != nil && ctx.Err() == nil {
			n.log.Debug("engines are not known", "err", err)
		}
	}
}

func (k *kit) retryEngines(ctx context.Context, now time.Time) error {
	if !k.blenders[0].Retry(ctx, now) {
		return nil
	}
	return k.askBlenders(ctx)
}

// engineFindings say which engines do not render here, for the doctor.
func (k *kit) engineFindings() (out []localapi.Finding) {
	for _, text := range k.blenders[0].NotRendered() {
		out = append(out, localapi.Finding{Severity: "note", What: text, Remedy: "after a change of the graphics driver start idlewild again: it is then tried at once"})
	}
	return out
}
