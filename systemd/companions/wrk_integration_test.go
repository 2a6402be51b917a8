//go:build integration

package companions_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// wrk is under way until stop.
type wrk struct {
	*child
	conns   int
	silence string // the file that makes it fall silent
	out     bytes.Buffer
}

// wrkCounts is what testdata/nginx/post.lua prints.
type wrkCounts struct {
	Requests                              int64
	Connect, Read, Write, Timeout, Status int64 // errors
}

func startWrk(t testing.TB, binary, url string, conns int) *wrk {
	t.Helper()
	w := &wrk{conns: conns, silence: filepath.Join(t.TempDir(), "silence")}
	cmd := exec.Command(binary, "--threads", "2", "--connections", strconv.Itoa(conns), "--duration", "2m", "--timeout", "10s",
		"--script", "../../testdata/nginx/post.lua", url, "--", w.silence)
	cmd.Stdout, cmd.Stderr = &w.out, &w.out
	w.child = startChild(t, cmd)
	return w
}

// stop ends wrk when it has no request under way.
func (w *wrk) stop() (counts wrkCounts) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(w.silence, nil, 0o600))
	await(w.t, func() bool {
		info, err := os.Stat(w.silence)
		return err == nil && info.Size() == int64(w.conns) || !w.running()
	}, "a connection of wrk waits for its answer")
	require.True(w.t, w.running(), "wrk has ended before it was told to")
	w.end(syscall.SIGINT)
	last := w.out.Bytes()[bytes.LastIndexByte(bytes.TrimSpace(w.out.Bytes()), '\n')+1:]
	require.NoError(w.t, json.Unmarshal(last, &counts), w.out.String())
	return counts
}
