package control

import (
	"context"
	"fmt"
	"net"
	"os"
)

type peerKey struct{}

// peer is who is at the other end of a connection.
type peer struct {
	local   bool   // by a Unix socket, and may do everything
	refused string // why it may do nothing
	uid     int    // whose it is, where known
	known   bool
}

// ConnContext notes who is at the other end, once for each connection. It belongs
// into the http.Server's field of that name.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, lookAt(c))
}

func lookAt(c net.Conn) peer {
	if a := c.LocalAddr(); a == nil || a.Network() != "unix" {
		return peer{}
	}
	uid, known, err := peerUser(c)
	switch {
	case err != nil:
		return peer{refused: "the kernel does not say who you are: " + err.Error()}
	case known && uid != 0 && uid != os.Geteuid():
		return peer{refused: fmt.Sprintf("this is for uid %d and root, you are uid %d", os.Geteuid(), uid)}
	}
	return peer{local: true, uid: uid, known: known}
}
