package routes

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-playground/validator/v10"
)

// maxOrder is the largest order in bytes, whatever the body limit: with all its
// fields at their longest it has less than 8 KiB.
const maxOrder = 64 << 10

// maxComplaints keeps the answer to an object of thousands of unknown fields small.
const maxComplaints = 20

type order struct {
	SKU      string `json:"sku" validate:"required,max=64,sku"`
	Quantity int    `json:"quantity" validate:"required,min=1,max=1000"`
	Email    string `json:"email" validate:"required,max=254,email"`
	Note     string `json:"note" validate:"max=500"`
}

type orderBody struct {
	ID       string `json:"id"` // the request's id
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// orderFields are the fields in the order in which they are complained about, with
// what each must be: one sentence for any way to get it wrong, its type included.
var orderFields = []Field{
	{"sku", "must be a string of 1 to 64 letters, digits and hyphens"},
	{"quantity", "must be a whole number from 1 to 1000"},
	{"email", "must be an e-mail address"},
	{"note", "must be a string of at most 500 characters"},
}

var skuPattern = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

// newOrderRules makes a validator of its own. Gin's is one for the whole process:
// what is registered there changes the binding of every other engine in it.
func newOrderRules() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name
	})
	err := v.RegisterValidation("sku", func(fl validator.FieldLevel) bool {
		return skuPattern.MatchString(fl.Field().String())
	})
	if err != nil {
		panic(err) // only for an empty name or a nil function
	}
	return v
}

// createOrder answers 201 with the order's id, 400 if the body is not a JSON
// object, and 422 if it is one but not an order; then each bad field is named,
// unknown ones too.
func createOrder(rules *validator.Validate) gin.HandlerFunc {
	return func(c *gin.Context) {
		limitBody(c, maxOrder)
		body, err := io.ReadAll(c.Request.Body)
		if err != nil {
			failBody(c, err)
			return
		}
		var given map[string]json.RawMessage
		if err := json.Unmarshal(body, &given); err != nil || given == nil {
			Fail(c, http.StatusBadRequest, "malformed_json", "the request's body is not a JSON object")
			return
		}
		o, bad := parseOrder(rules, given)
		if len(bad) > 0 {
			Fail(c, http.StatusUnprocessableEntity, "invalid_order", "some fields of the order are not valid", bad...)
			return
		}
		writeJSON(c, http.StatusCreated, orderBody{RequestID(c), o.SKU, o.Quantity})
	}
}

// parseOrder decodes field by field: encoding/json stops remembering at the first
// wrong type or unknown name, and a client wants to hear of all of them at once.
func parseOrder(rules *validator.Validate, given map[string]json.RawMessage) (order, []Field) {
	var o order
	into := map[string]any{"sku": &o.SKU, "quantity": &o.Quantity, "email": &o.Email, "note": &o.Note}
	wrong := map[string]bool{}
	for name, raw := range given {
		if target, known := into[name]; known && json.Unmarshal(raw, target) != nil {
			wrong[name] = true
		}
	}
	var invalid validator.ValidationErrors
	if errors.As(rules.Struct(o), &invalid) {
		for _, e := range invalid {
			wrong[e.Field()] = true
		}
	}
	var bad []Field
	for _, f := range orderFields {
		if !wrong[f.Field] {
			continue
		}
		if _, sent := given[f.Field]; !sent {
			f.Message = "is required, and " + f.Message
		}
		bad = append(bad, f)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, known := into[name]; !known && len(bad) < maxComplaints {
			bad = append(bad, Field{clip(name, 64), "is not a field of an order"})
		}
	}
	return o, bad
}
