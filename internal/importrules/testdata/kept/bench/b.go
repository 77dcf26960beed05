// Command bench may import everything.
package main

import (
	_ "github.com/ipfs/boxo/bitswap"
	_ "github.com/libp2p/go-libp2p"
	_ "idlewild/internal/farmtest"
)

func main() {}
