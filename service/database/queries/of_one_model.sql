-- Condition of a branch: the requests of one model.
model_id = (SELECT m.id FROM gateway_schema.models AS m WHERE m.id = {model})
