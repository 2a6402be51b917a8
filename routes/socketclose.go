package routes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// closeDrainLimit bounds what is read and thrown away while waiting for a peer's
// Close: one message that was on its way, with room to spare.
const closeDrainLimit = 4 * socketMessageLimit

// control answers a control frame, between messages or in the middle of one. For a
// Close it returns wsutil.ClosedError when it has been answered. It is not
// wsutil.ControlHandler because that takes 1012, our own code echoed, for an error.
func (s *socket) control(head ws.Header, payload io.Reader) error {
	data := make([]byte, head.Length) // at most 125, which NextFrame has checked
	if _, err := io.ReadFull(payload, data); err != nil {
		return err
	}
	switch head.OpCode {
	case ws.OpPing:
		return s.write(ws.NewPongFrame(data))
	case ws.OpClose:
		code, err := closeCode(data)
		if err != nil {
			return err
		}
		// The code is sent back as it came, none if there was none: section 5.5.1.
		if err := s.write(ws.NewCloseFrame(data[:min(2, len(data))])); err != nil {
			return err
		}
		return wsutil.ClosedError{Code: code}
	}
	return nil // a Pong that nobody asked for, section 5.5.3
}

// closeCode checks the payload of a Close frame: RFC 6455 sections 5.5.1 and 7.4,
// and the IANA registry for 1012 to 1014.
func closeCode(data []byte) (ws.StatusCode, error) {
	if len(data) == 0 {
		return ws.StatusNoStatusRcvd, nil
	}
	if len(data) == 1 {
		return 0, ws.ProtocolError("half a status code")
	}
	code := binary.BigEndian.Uint16(data)
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
	default:
		return 0, ws.ProtocolError("status code is not for use in a frame")
	}
	if !utf8.Valid(data[2:]) {
		return 0, ws.ErrProtocolInvalidUTF8
	}
	return ws.StatusCode(code), nil
}

func isProtocolError(err error) bool {
	var p ws.ProtocolError
	return errors.As(err, &p) || errors.Is(err, ws.ErrHeaderLengthMSB) || errors.Is(err, ws.ErrHeaderLengthUnexpected)
}

// sendClose sends a Close frame and bounds what is read after it. It reports
// whether there is a peer to wait for.
func (s *socket) sendClose(bye farewell) bool {
	if err := s.write(ws.NewCloseFrame(ws.NewCloseFrameBody(bye.code, bye.reason))); err != nil {
		return false
	}
	return s.conn.SetReadDeadline(time.Now().Add(s.closeWait)) == nil
}

// sizeOf is a limit in words, "1 MiB" for instance.
func sizeOf(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// fail closes from the middle of a message, where there are no frames to be found
// any more: instead of the peer's Close the end of its stream is waited for, after
// our own end has been given. To close at once would be to reset the connection
// under a peer that is still sending, and the reset can overtake the Close frame
// on its way to the reader.
func (s *socket) fail(bye farewell) {
	if !s.sendClose(bye) {
		return
	}
	if half, ok := s.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, s.rd, closeDrainLimit)
}

// awaitClose reads up to the peer's Close frame. What comes before it was sent
// before the peer knew, and is not answered: section 5.5.1 forbids it.
func (s *socket) awaitClose() {
	left := int64(closeDrainLimit)
	for left > 0 {
		head, err := ws.ReadHeader(s.rd)
		if err != nil || head.OpCode == ws.OpClose {
			return
		}
		n, err := io.CopyN(io.Discard, s.rd, min(head.Length, left))
		if err != nil {
			return
		}
		left -= n + ws.MaxHeaderSize
	}
}
