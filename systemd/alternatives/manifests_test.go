package alternatives_test

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/systemd/supervise"
	"github.com/holdfast-go/holdfast/upgrade/settings"
)

const (
	manifestDir = "kubernetes"
	dockerfile  = "docker/Dockerfile"
)

// cluster is the part of the manifests that must fit together; whether they are
// manifests at all is for Kubernetes' own types, in the integration test.
type cluster struct {
	deployment struct {
		Spec struct {
			Strategy struct {
				RollingUpdate struct {
					MaxUnavailable *int `yaml:"maxUnavailable"`
					MaxSurge       int  `yaml:"maxSurge"`
				} `yaml:"rollingUpdate"`
			}
			Selector selector
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     pod
			}
		}
	}
	service struct {
		Spec struct {
			Selector map[string]string
			Ports    []struct {
				TargetPort string `yaml:"targetPort"`
			}
		}
	}
	budget struct {
		Spec struct {
			MaxUnavailable int `yaml:"maxUnavailable"`
			Selector       selector
		}
	}
	config struct {
		Metadata struct{ Name string }
		Data     map[string]string
	}
}

type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

type pod struct {
	Grace           int `yaml:"terminationGracePeriodSeconds"`
	SecurityContext struct {
		RunAsNonRoot bool                  `yaml:"runAsNonRoot"`
		RunAsUser    int                   `yaml:"runAsUser"`
		FSGroup      int                   `yaml:"fsGroup"`
		Seccomp      struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	Spread []struct {
		LabelSelector selector `yaml:"labelSelector"`
	} `yaml:"topologySpreadConstraints"`
	Containers []container
	Volumes    []struct {
		Name      string
		ConfigMap *struct{ Name string } `yaml:"configMap"`
		EmptyDir  *struct{}              `yaml:"emptyDir"`
	}
}

type container struct {
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	Env       []struct{ Name, Value string }
	Startup   probe `yaml:"startupProbe"`
	Readiness probe `yaml:"readinessProbe"`
	Liveness  probe `yaml:"livenessProbe"`
	Lifecycle struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
	SecurityContext struct {
		Escalation *bool                   `yaml:"allowPrivilegeEscalation"`
		ReadOnly   bool                    `yaml:"readOnlyRootFilesystem"`
		Caps       struct{ Drop []string } `yaml:"capabilities"`
	} `yaml:"securityContext"`
	Mounts []struct {
		Name    string
		Path    string `yaml:"mountPath"`
		SubPath string `yaml:"subPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTP struct{ Path, Port string } `yaml:"httpGet"`

	Period  int `yaml:"periodSeconds"`
	Failure int `yaml:"failureThreshold"`
}

// manifests are the texts by kind.
func manifests(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, kind := range []string{"configmap", "deployment", "poddisruptionbudget", "service"} {
		b, err := os.ReadFile(filepath.Join(manifestDir, kind+".yaml"))
		require.NoError(t, err)
		texts[kind] = string(b)
	}
	all, err := filepath.Glob(filepath.Join(manifestDir, "*"))
	require.NoError(t, err)
	require.Len(t, all, len(texts), "a manifest that is not tested")
	return texts
}

func parse(t *testing.T, texts map[string]string) (c cluster) {
	t.Helper()
	for kind, into := range map[string]any{
		"configmap": &c.config, "deployment": &c.deployment, "poddisruptionbudget": &c.budget, "service": &c.service,
	} {
		require.NoError(t, yaml.Unmarshal([]byte(texts[kind]), into), kind)
	}
	return c
}

// file is the configuration file in the ConfigMap, and its key.
func (c cluster) file() (key, text string) {
	for key, text = range c.config.Data {
		return key, text
	}
	return "", ""
}

// configured is how the service, and its parent, run.
type configured struct {
	settings.Server
	StopTimeout time.Duration // of supervise
}

// settings reads the file in the ConfigMap as the service does.
func (c cluster) settings(t *testing.T) configured {
	t.Helper()
	key, text := c.file()
	path := filepath.Join(t.TempDir(), key)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	var commands struct {
		Serve struct {
			settings.Server
			Config settings.File
		} `cmd:""`
		Supervise supervise.Command `cmd:""`
	}
	k, err := kong.New(&commands, kong.Writers(io.Discard, io.Discard))
	require.NoError(t, err)
	for _, args := range [][]string{
		{"supervise", "--pid-file", "x", "--", "x"},
		{"serve", "--config", path},
	} {
		_, err = k.Parse(args)
		require.NoError(t, err)
	}
	return configured{commands.Serve.Server, commands.Supervise.StopTimeout}
}

// image is what the Dockerfile says of its last stage.
type image struct{ user, port, pidDir, from string }

func readImage(t *testing.T) image {
	t.Helper()
	b, err := os.ReadFile(dockerfile)
	require.NoError(t, err)
	find := func(pattern string) string {
		m := regexp.MustCompile(`(?m)`+pattern).FindAllStringSubmatch(string(b), -1)
		require.Len(t, m, 1, pattern)
		return m[0][1]
	}
	return image{
		user: find(`^USER (\d+):\d+$`), port: find(`^EXPOSE (\d+)$`),
		pidDir: filepath.Dir(find(`HOLDFAST_PID_FILE=(\S+)`)), from: find(`^FROM (\S+) AS build$`),
	}
}
