package routes

import (
	"strings"
	"testing"

	"github.com/gin-gonic/gin/binding"
	"github.com/stretchr/testify/require"
)

func TestOrders(t *testing.T) {
	srv := start(t, New(Deps{}))
	with := func(field, value string) string {
		fields := map[string]string{"sku": `"KELP-1"`, "quantity": "2", "email": `"a@example.org"`, "note": `""`}
		fields[field] = value
		var parts []string
		for k, v := range fields {
			if v != "" {
				parts = append(parts, `"`+k+`":`+v)
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	quoted := func(s string, n int) string { return `"` + strings.Repeat(s, n) + `"` }
	for _, tc := range []struct {
		name, body string
		status     int
		bad        []string
	}{
		{"good", goodOrder, 201, nil},
		{"longest sku", with("sku", quoted("a", 64)), 201, nil},
		{"longest note", with("note", quoted("é", 500)), 201, nil},
		{"null note", with("note", "null"), 201, nil},
		{"largest quantity", with("quantity", "1000"), 201, nil},

		{"empty", "", 400, nil},
		{"not json", `{"sku":`, 400, nil},
		{"two objects", goodOrder + goodOrder, 400, nil},
		{"array", "[" + goodOrder + "]", 400, nil},
		{"null", "null", 400, nil},

		{"nothing in it", "{}", 422, []string{"sku", "quantity", "email"}},
		{"empty sku", with("sku", `""`), 422, []string{"sku"}},
		{"long sku", with("sku", quoted("a", 65)), 422, []string{"sku"}},
		{"sku of other characters", with("sku", `"KELP_1"`), 422, []string{"sku"}},
		{"sku with a line break", with("sku", `"KELP\n"`), 422, []string{"sku"}},
		{"sku is a number", with("sku", "1"), 422, []string{"sku"}},
		{"quantity 0", with("quantity", "0"), 422, []string{"quantity"}},
		{"quantity -1", with("quantity", "-1"), 422, []string{"quantity"}},
		{"quantity 1001", with("quantity", "1001"), 422, []string{"quantity"}},
		{"quantity 1.5", with("quantity", "1.5"), 422, []string{"quantity"}},
		{"quantity is a string", with("quantity", `"2"`), 422, []string{"quantity"}},
		{"quantity missing", with("quantity", ""), 422, []string{"quantity"}},
		{"email without @", with("email", `"example.org"`), 422, []string{"email"}},
		{"email with a name", with("email", `"A <a@example.org>"`), 422, []string{"email"}},
		{"email null", with("email", "null"), 422, []string{"email"}},
		{"long note", with("note", quoted("é", 501)), 422, []string{"note"}},
		{"unknown field", with("color", `"green"`), 422, []string{"color"}},
		{"names have a case", with("SKU", `"x"`), 422, []string{"SKU"}},
		{"all at once", `{"z":1,"sku":"_","quantity":"x","email":"x","note":7,"a":1}`, 422, []string{"sku", "quantity", "email", "note", "a", "z"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := do(t, srv, "POST", "/orders", tc.body, "Content-Type", "application/json", "X-Request-Id", "order-17")
			switch tc.status {
			case 201:
				require.Equal(t, 201, a.status, a.body)
				require.Contains(t, a.body, `{"id":"order-17","sku":"`)
			case 400:
				requireError(t, a, 400, "malformed_json")
			case 422:
				var bad []string
				for _, f := range requireError(t, a, 422, "invalid_order").Fields {
					bad = append(bad, f.Field)
					require.NotEmpty(t, f.Message)
				}
				require.Equal(t, tc.bad, bad)
			}
		})
	}
	require.JSONEq(t, `{"id":"x","sku":"KELP-1","quantity":2}`,
		do(t, srv, "POST", "/orders", goodOrder, "X-Request-Id", "x").body)
}

func TestComplaintsAreBounded(t *testing.T) {
	body := "{" + strings.TrimSuffix(strings.Repeat(`"x":1,`, 3), ",")
	for i := range 1000 {
		body += `,"` + strings.Repeat("y", 1+i%40) + string(rune('a'+i%26)) + `":1`
	}
	a := do(t, start(t, New(Deps{})), "POST", "/orders", body+"}")
	require.Len(t, requireError(t, a, 422, "invalid_order").Fields, maxComplaints)
}

// Gin's validator is every engine's; ours must not have changed it.
func TestGinsValidatorIsUntouched(t *testing.T) {
	New(Deps{})
	type s struct {
		A string `json:"b" binding:"required"`
	}
	require.ErrorContains(t, binding.Validator.ValidateStruct(s{}), "'s.A'")
}
